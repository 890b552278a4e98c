"""Token maps: a text shaded by what its tokens lose when retrieval heads are masked.

Fragments of HTML. The page around them needs `STYLE` and `SCRIPT` once, and `LEGEND` where the reader is; a
policy of `default-src 'none'` with this style and the script's hash is enough for them.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from airlab.errors import UserError
from airlab.reporting.html import without_controls

STYLE = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")

EDGES = (0.1, 0.5, 1.0, 2.0, 4.0)
"""Nats at which a token's shade changes, in both directions: the same in every map, so that maps compare."""

EXAMPLES = "examples.json"
EXAMPLES_FORMAT = "airlab-examples/1"


class StepScore(NamedTuple):
    """One step of a trace."""

    first_token: int
    n_tokens: int
    loss_sum_base: float
    loss_sum_ref: float
    score: float
    """Its attention influence."""


@dataclass(frozen=True)
class TokenMap:
    """A text, or its beginning, and what the base and the reference model make of its tokens.

    A mark is what is shaded as one: a token's characters, or a character that several tokens make. Marks
    partition the text. A mark without characters stands for a token that has none, such as one that begins a
    sequence.

    Attributes:
        name: the document's or trace's id.
        text: what the model read; of a trace with its prompt.
        ends: where each mark ends, in characters.
        tokens: how many tokens each mark has, at least one.
        base, reference: losses in nats of each token but the first, which nothing predicts.
        attended: the position that `head` attends to most where each of these tokens is predicted.
        head: layer and head, from 0: the strongest of those that the reference model has masked.
        windows: first tokens of windows after the first: nothing before them is seen.
        all_tokens: tokens of the whole text, more than the marks' if this is its beginning.
        first_counted: the first token that counts; those before it are context.
        n_tokens, loss_sum_base, loss_sum_ref: of all tokens that count.
        score: attention influence of the whole.
        steps: of a trace, in order.
    """

    name: str
    text: str
    ends: tuple[int, ...]
    tokens: tuple[int, ...]
    base: tuple[float, ...]
    reference: tuple[float, ...]
    attended: tuple[int, ...]
    head: tuple[int, int]
    windows: tuple[int, ...]
    all_tokens: int
    first_counted: int
    n_tokens: int
    loss_sum_base: float
    loss_sum_ref: float
    score: float
    steps: tuple[StepScore, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `of_json`."""
        return asdict(self)

    @classmethod
    def of_json(cls, data: dict[str, Any]) -> Self:
        """From plain values. KeyError or TypeError for anything else."""
        values: dict[str, Any] = {field.name: data[field.name] for field in fields(cls)}
        values["steps"] = [StepScore(*step) for step in values["steps"]]
        for name, value in values.items():
            if isinstance(value, list):
                values[name] = tuple(value)
        return cls(**values)

    def beginning(self, tokens: int) -> Self:
        """As many whole marks as hold at most this many tokens; sums and steps stay those of the whole."""
        marks = bisect_right(np.cumsum(self.tokens).tolist(), tokens)
        if marks == len(self.tokens):
            return self
        shown = sum(self.tokens[:marks])
        predicted = max(shown - 1, 0)
        return replace(
            self,
            text=self.text[: self.ends[marks - 1] if marks else 0],
            ends=self.ends[:marks],
            tokens=self.tokens[:marks],
            base=self.base[:predicted],
            reference=self.reference[:predicted],
            attended=self.attended[:predicted],
            windows=tuple(w for w in self.windows if w < shown),
        )


def _legend() -> str:
    down = [(f"tm-d{i}", f"below −{edge:g}") for i, edge in enumerate(EDGES, 1)]
    up = [(f"tm-u{i}", f"above +{edge:g}") for i, edge in enumerate(EDGES, 1)]
    scale = [*reversed(down), ("tm-0", f"±{EDGES[0]:g}"), *up]
    swatches = "".join(f'<span class="{name}">{words}</span>' for name, words in scale)
    return (
        '<div class="tm-legend"><span>Influence of a token, loss_ref − loss_base, in nats:</span>'
        f'<span class="tm-scale">{swatches}</span>'
        "<span>orange: masking the retrieval heads makes the token harder to predict; blue and underlined: "
        "easier. Point at a token, tap it, or move with the arrow keys: the dashed mark is where the "
        "strongest head looks.</span></div>"
    )


LEGEND = _legend()


def render_map(shown: TokenMap) -> str:
    """One map with its numbers, and of a trace a table of its steps."""
    head = f"layer {shown.head[0]}, head {shown.head[1]}"
    name = escape(shown.name)
    part = sum(shown.tokens)
    cut = (
        f'<p class="tm-note">Shown: the first {part:,} of {shown.all_tokens:,} tokens.</p>'
        if part < shown.all_tokens
        else ""
    )
    windows = (
        '<p class="tm-note">A double line begins a new window: nothing before it is seen.</p>'
        if shown.windows
        else ""
    )
    return (
        f'<section class="tm"><p class="tm-h"><b><bdi>{name}</bdi></b> {_numbers(shown)}; '
        f"strongest head: {head}</p>{cut}{windows}"
        f'<div class="tm-t" dir="auto" tabindex="0" role="group" data-head="{head}" '
        f'aria-label="Token map of {name}: arrow keys move from token to token">{_text(shown)}</div>'
        f"{_steps(shown)}</section>"
    )


def _numbers(shown: TokenMap) -> str:
    n = shown.n_tokens
    base, reference = shown.loss_sum_base / n, shown.loss_sum_ref / n
    return (
        f"{n:,} predicted tokens, loss_base {base:.3f}, loss_ref {reference:.3f} nats a token, "
        f"attention influence {signed(shown.score)}"
    )


def signed(value: float, digits: int = 3) -> str:
    """With its sign; a real minus, so that columns line up."""
    rounded = f"{abs(value):.{digits}f}"
    return f"{'−' if value < 0 and float(rounded) else '+'}{rounded}"


def _text(shown: TokenMap) -> str:
    """The marks, inside of the steps that they belong to."""
    pieces: list[str] = []
    opened: str | None = None
    starts = [step.first_token for step in shown.steps]
    windows = set(shown.windows)
    for first, count, begin, end in _marks(shown):
        opening = _part(shown, starts, first)
        if opening != opened:
            pieces += ["</span>"] * (opened is not None) + ([opening] if opening else [])
            opened = opening or None
        mark = shown.text[begin:end]
        counted = [t for t in range(first, first + count) if t > 0]
        base, reference = (sum(values[t - 1] for t in counted) for values in (shown.base, shown.reference))
        places = ["-"] * (count - len(counted)) + [str(shown.attended[t - 1]) for t in counted]
        classes = [_shade(reference - base)] if first >= shown.first_counted else []
        classes += ["tm-n"] * ("\n" in mark) + ["tm-e"] * (not mark)
        classes += ["tm-w"] * any(t in windows for t in range(first, first + count))
        named = " ".join(filter(None, classes))
        attribute = f' class="{named}"' if named else ""
        numbers = f"{_short(base)} {_short(reference)} {','.join(places)}"
        pieces.append(f'<span{attribute} data-v="{numbers}">{escape(without_controls(mark))}</span>')
    return "".join([*pieces, *["</span>"] * (opened is not None)])


def _marks(shown: TokenMap) -> Iterator[tuple[int, int, int, int]]:
    """Of each mark its first token, its number of tokens, and its characters."""
    token = begin = 0
    for end, count in zip(shown.ends, shown.tokens, strict=True):
        yield token, count, begin, end
        token, begin = token + count, end


def _part(shown: TokenMap, starts: Sequence[int], token: int) -> str:
    """The opening tag of the prompt or of the step that a token belongs to; nothing in a document."""
    if not starts:
        return ""
    number = bisect_right(starts, token) - 1
    if number < 0:
        return '<span class="tm-p" data-part="prompt: context, not counted">'
    score = signed(shown.steps[number].score, 2)
    said = f"step {number + 1} of {len(starts)}, attention influence {score}"
    return f'<span class="tm-s" data-s="{number + 1}: {score}" data-part="{said}">'


def _shade(nats: float) -> str:
    level = bisect_right(EDGES, abs(nats))
    return f"tm-{'u' if nats > 0 else 'd'}{level}" if level else ""


def _short(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _steps(shown: TokenMap) -> str:
    if not shown.steps:
        return ""
    rows = "".join(
        f"<tr><td>{number}</td><td>{step.n_tokens}</td><td>{step.loss_sum_base / step.n_tokens:.3f}</td>"
        f"<td>{step.loss_sum_ref / step.n_tokens:.3f}</td><td>{signed(step.score)}</td></tr>"
        for number, step in enumerate(shown.steps, 1)
    )
    return (
        '<table class="tm-steps"><thead><tr><th scope="col">step</th><th scope="col">tokens</th>'
        '<th scope="col">loss_base, nats a token</th><th scope="col">loss_ref</th>'
        f'<th scope="col">attention influence</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def render_examples(folder: Path) -> str:
    """The examples of a results folder, domain by domain; nothing where there are none.

    Raises:
        UserError: a file of examples that cannot be read.
    """
    path = folder / EXAMPLES
    if not path.is_file():
        return ""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != EXAMPLES_FORMAT:
            raise ValueError(f"its format is {data['format']}")
        domains = list(dict.fromkeys(example["domain"] for example in data["examples"]))
        parts = [f"<p>{escape(data['rule'])}</p>"]
        for domain in domains:
            parts.append(f"<h4><bdi>{escape(domain)}</bdi></h4>")
            parts += [_example(example) for example in data["examples"] if example["domain"] == domain]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} does not hold examples ({error}); restore it or gather them again with `airlab report`."
        ) from None
    return "".join(parts)


def _example(example: dict[str, Any]) -> str:
    where = ", ".join(escape(example[name]) for name in ("source", "member", "licence") if example[name])
    line = f"<b>{escape(example['place'])}</b> (rank {example['rank']:,} of {example['of']:,}); {where}"
    if example["map"] is not None:
        return f'<p class="tm-h">{line}</p>{render_map(TokenMap.of_json(example["map"]))}'
    n = example["n_tokens"]
    return (
        f'<section class="tm"><p class="tm-h">{line}</p><p class="tm-h"><b><bdi>{escape(example["id"])}</bdi>'
        f"</b> {n:,} predicted tokens, loss_base {example['loss_sum_base'] / n:.3f}, loss_ref "
        f"{example['loss_sum_ref'] / n:.3f} nats a token, attention influence {signed(example['score'])}</p>"
        f'<p class="tm-note">{escape(example["why_no_text"])}</p></section>'
    )
