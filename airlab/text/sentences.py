"""Natural sentences for probes: from prose only, complete, without markup or code."""

import re
from collections.abc import Iterable, Iterator

_BORDER = re.compile(r"(?<=[.!?])[ \n]+(?=[A-Z])")
_WHOLE = re.compile(r"[A-Z][a-z']*,?(?: \(?[A-Za-z][A-Za-z'’-]*\)?[,;:]?| [0-9]{1,4},?)+\.")
_ABBREVIATION = re.compile(
    r"\b(?:[A-Z]|Mr|Mrs|Dr|St|Fig|Figs|Eq|Eqs|No|Sec|vol|approx|etc|vs|e\.g|i\.e|cf|al)\.$"
)


def sentences(
    texts: Iterable[str], *, min_words: int = 5, max_words: int = 25, limit: int | None = None
) -> list[str]:
    """Distinct sentences in the order found: capital first, full stop last, words and small numbers between.

    A sentence has `min_words` to `max_words` words; letter case and spacing aside, none occurs twice.
    `limit` stops the search early. Deterministic: the order of `texts` decides.
    """
    found: dict[str, str] = {}
    for text in texts:
        for sentence in _candidates(text):
            words = sentence.split()
            if (
                min_words <= len(words) <= max_words
                and sum(word[0].isupper() for word in words) <= len(words) // 2
            ):
                found.setdefault(sentence.lower(), sentence)
                if limit is not None and len(found) >= limit:
                    return list(found.values())
    return list(found.values())


def _candidates(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*(?:[-*#>]|\d+[.)]))", text):
        if re.match(r"\s{2,}|\s*(?:[-*#>]|\d+[.)])", paragraph):
            continue  # code, list items, headings
        held: list[str] = []
        for part in _BORDER.split(re.sub(r"\s+", " ", paragraph).strip()):
            held.append(part)
            if _ABBREVIATION.search(part):
                continue  # the stop was not the end
            if _WHOLE.fullmatch(sentence := " ".join(held)):
                yield sentence
            held = []
