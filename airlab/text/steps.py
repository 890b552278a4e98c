"""Cutting a response into steps: one rule of several, and what no rule may cut.

Steps partition the response: spans of characters, in order, without gap or overlap. A step begins with a
character that is not white space; what white space lies before it belongs to the step above. So there are no
blank steps, unless the whole response is blank, which is one step. Nothing is cut inside of

- a fenced code block (three or more backticks or tildes at the start of a line, indented or not). One that is
  not closed reaches to the end, as in Markdown;
- LaTeX: `$...$` on one paragraph, where the opening sign has no space behind it and the closing one none
  before and no digit behind it (so that prices are not formulas), `$$...$$`, `\\[...\\]`, `\\(...\\)`,
  `\\begin{x}...\\end{x}`. What is not closed, before the next code block at the latest, protects nothing: a
  stray dollar would swallow the rest;
- a letter and its combining marks, a joined emoji, a carriage return and its line feed.
"""

import itertools
import re
import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from airlab.errors import UserError
from airlab.schema.traces import Segmentation

Span = tuple[int, int]

_LINE_END = "\n\r\u2028\u2029"
_NEWLINE = rf"(?:\r\n|[{_LINE_END}])"
_BLANK_LINE = re.compile(rf"{_NEWLINE}[^\S{_LINE_END}]*{_NEWLINE}\s*")
_LINE = re.compile(rf"{_NEWLINE}\s*")
_SENTENCE = re.compile(
    r"""(?:(?<![.!?…])[.!?…]++[)\]"'”’*_]*+(?=\s)|(?<![。！？])[。！？]++[」』）”’]*+)\s*"""
)  # the end of a sentence, and the white space that follows
_NO_SENTENCE = re.compile(
    r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|Fig|Figs|Eq|Eqs|Sec|Thm|Lem|Def|Prop|Ex|vol|pp|approx|vs|cf|resp|al"
    r"|e\.g|i\.e|a\.k\.a|w\.r\.t|w\.l\.o\.g)\.$"
)
_LIST_NUMBER = re.compile(rf"(?:\A|[\s{_LINE_END}])[(\[]?\d{{1,3}}\.$")
_EMPHASIS = r"[#>*_ \t-]*+"
"""What Markdown may put before a number or a cue."""
_NUMBER = re.compile(_EMPHASIS + r"(?:(?:[Ss]tep|STEP)\s+\d+|[(\[]?\d{1,3}[.)\]:])(?=\W|\Z)")
_FENCE = re.compile(
    rf"(?:\A|(?<=[{_LINE_END}]))[^\S{_LINE_END}]*(?P<sign>`{{3,}}|~{{3,}})(?P<rest>[^{_LINE_END}]*)"
)
_LATEX = re.compile(
    r"\\\\|\\\$|\\\[|\\\]|\\\(|\\\)|\\(?:begin|end)\{[^{}\s]{1,40}\}|\$\$|\$"
)  # two backslashes and an escaped dollar are read to be passed over
_CLOSES = {r"\[": r"\]", r"\(": r"\)", "$$": "$$", "$": "$"}
_JOINER = "\u200d"
_SKIN_TONES = range(0x1F3FB, 0x1F400)


def cut(
    response: str,
    segmentation: Segmentation,
    *,
    token_starts: Sequence[int] = (),
    step_ends: Sequence[int] | None = None,
) -> tuple[Span, ...]:
    """The steps of a response as spans of characters that partition it; none for an empty one.

    Args:
        response: the text to cut.
        segmentation: the rule.
        token_starts: for `fixed_tokens`, the first own character of each of the response's tokens, ascending.
        step_ends: for `given`, where each step ends; the last is the response's length.

    Raises:
        UserError: `given` without ends, or with ends that do not partition the response.
    """
    if not response:
        return ()
    if segmentation.rule == "given":
        return _given(response, step_ends)
    may_cut = _rule_of_places(response)
    if segmentation.rule == "fixed_tokens":
        places = _counted(token_starts, segmentation.tokens_per_step, may_cut)
    else:
        places = sorted(set(filter(may_cut, _places(response, segmentation))))
    borders = [0, *places, len(response)]
    return tuple(itertools.pairwise(borders))


def _given(response: str, step_ends: Sequence[int] | None) -> tuple[Span, ...]:
    if step_ends is None:
        raise UserError(
            "these traces name no steps of their own: choose another segmentation.rule than given."
        )
    borders = [0, *step_ends]
    if borders[-1] != len(response) or any(a >= b for a, b in itertools.pairwise(borders)):
        raise UserError(
            "the steps that a trace names do not partition its response: correct step_ends or choose another "
            "segmentation.rule than given."
        )
    return tuple(itertools.pairwise(borders))


def _places(response: str, segmentation: Segmentation) -> Iterator[int]:
    """Where the rule would cut, if nothing were protected."""
    if segmentation.rule == "blank_line":
        yield from _ends(_BLANK_LINE, response)
    elif segmentation.rule == "newline":
        yield from _ends(_LINE, response)
    elif segmentation.rule == "sentence":
        yield from _ends(_BLANK_LINE, response)
        yield from _sentence_starts(response)
    elif segmentation.rule == "cue":
        cue = re.compile(rf"{_EMPHASIS}(?:{'|'.join(map(re.escape, segmentation.cues))})(?!\w)")
        for place in _ends(_LINE, response):
            if _NUMBER.match(response, place) or (segmentation.cues and cue.match(response, place)):
                yield place
        if segmentation.cues:
            yield from (place for place in _sentence_starts(response) if cue.match(response, place))


def _ends(pattern: re.Pattern[str], text: str) -> Iterator[int]:
    return (match.end() for match in pattern.finditer(text))


def _sentence_starts(text: str) -> Iterator[int]:
    """Where a sentence ends and the next begins with something else than a small letter."""
    for match in _SENTENCE.finditer(text):
        end = match.end()
        if end == len(text) or text[end].islower():
            continue
        if text[match.start()] == "." and text[match.start() : match.start() + 2] != "..":
            before = text[max(0, match.start() - 12) : match.start() + 1]
            if _NO_SENTENCE.search(before) or _LIST_NUMBER.search(before):
                continue
        yield end


def _counted(token_starts: Sequence[int], least: int, may_cut: Callable[[int], bool]) -> list[int]:
    """Cuts at the first place that is allowed after `least` tokens."""
    places, count, last = [], 0, -1
    for start in token_starts:
        if count >= least and start > last and may_cut(start):
            places.append(start)
            count = 0
        count, last = count + 1, start
    return places


def _rule_of_places(text: str) -> Callable[[int], bool]:
    """Whether a step may begin at a place: not in white space, in a character or in what is protected."""
    protected = protected_spans(text)
    first = len(text) - len(text.lstrip())

    def may_cut(place: int) -> bool:
        if not first < place < len(text) or text[place].isspace():
            return False
        if _JOINER in text[place - 1 : place + 1] or ord(text[place]) in _SKIN_TONES:
            return False
        if unicodedata.category(text[place]).startswith("M"):
            return False
        index = bisect_left(protected, (place, 0)) - 1  # the last span that begins before
        return index < 0 or place >= protected[index][1]

    return may_cut


def protected_spans(text: str) -> list[Span]:
    """The code blocks and formulas of a text, ascending and disjoint; see the module's description."""
    fences = _fences(text)
    spans = list(fences)
    for start, end in zip(
        [0, *(end for _, end in fences)], [*(start for start, _ in fences), len(text)], strict=True
    ):
        spans += _formulas(text, start, end)
    return sorted(spans)


def _fences(text: str) -> list[Span]:
    spans: list[Span] = []
    opened: re.Match[str] | None = None
    for line in _FENCE.finditer(text):
        sign, rest = line["sign"], line["rest"]
        if opened is None:
            if sign[0] == "~" or "`" not in rest:  # else it is code within a line
                opened = line
        elif sign.startswith(opened["sign"]) and not rest.strip():
            spans.append((opened.start("sign"), line.end("sign")))
            opened = None
    if opened is not None:
        spans.append((opened.start("sign"), len(text)))
    return spans


def _formulas(text: str, start: int, end: int) -> list[Span]:
    """Formulas in a part of a text without code blocks; time grows with its length alone."""
    signs = list(_LATEX.finditer(text, start, end))
    closers = _closers(text, signs, end)
    spans, index = [], 0
    while index < len(signs):
        closer = closers.get(index)
        if closer is None:
            index += 1
        else:
            spans.append((signs[index].start(), signs[closer].end()))
            index = closer + 1
    return spans


def _closers(text: str, signs: Sequence[re.Match[str]], end: int) -> dict[int, int]:
    """Of each sign that opens a formula, if none before it already has, the sign that would close it."""
    found: dict[int, int] = {}
    blank = [m.start() for m in _BLANK_LINE.finditer(text, signs[0].start(), end)] if signs else []
    after: dict[str, int] = {}  # a sign → the next place where it closes something
    for index in range(len(signs) - 1, -1, -1):
        sign, place = signs[index][0], signs[index].start()
        closes = after.get(_CLOSES.get(sign, ""))
        if closes is not None and (sign != "$" or _inline(text, place, signs[closes].start(), blank)):
            found[index] = closes
        if sign in _CLOSES.values() and (sign != "$" or _may_close(text, place)):
            after[sign] = index
    open_environments: dict[str, list[int]] = defaultdict(list)
    for index, match in enumerate(signs):
        kind, _, name = match[0].partition("{")
        if kind == r"\begin":
            open_environments[name].append(index)
        elif kind == r"\end" and open_environments[name]:
            found[open_environments[name].pop()] = index
    return found


def _may_close(text: str, place: int) -> bool:
    after = text[place + 1 : place + 2]
    return place > 0 and not text[place - 1].isspace() and not after.isdigit()


def _inline(text: str, opens: int, closes: int, blank: Sequence[int]) -> bool:
    """Whether two dollars hold a formula between them: nothing but space would not be one."""
    if text[opens + 1].isspace():
        return False
    next_blank = bisect_left(blank, opens)
    return next_blank == len(blank) or blank[next_blank] > closes
