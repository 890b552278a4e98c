"""Heads over training: a map for every checkpoint of every target, and the best head's score."""

from collections.abc import Iterator
from dataclasses import dataclass

from airlab.reporting.figures.canvas import SMALL, WIDTH, Sheet
from airlab.reporting.figures.figure import Figure
from airlab.reporting.figures.head_map import cells, scale
from airlab.reporting.figures.palette import DASHES, LIGHT, MARKERS, SERIES
from airlab.reporting.figures.results import Results, Rows, value_of

_PAGE = "maps"
_LEFT = 44


@dataclass(frozen=True)
class _Moment:
    seed: str
    tokens: int
    chance: float
    """The highest of all layers."""
    detectable: float | None
    scores: list[list[float]]
    above_chance: set[tuple[int, ...]]

    @property
    def best(self) -> float:
        return max(max(row) for row in self.scores)


def draw(results: Results) -> Iterator[Figure]:
    """Both figures, where the folder has maps of checkpoints."""
    rows = results.rows(_PAGE)
    if not rows:
        return
    moments = _moments(rows)
    yield _maps(results, moments)
    yield _best(results, moments)


def _moments(rows: Rows) -> list[_Moment]:
    grouped: dict[tuple[str, int], Rows] = {}
    for row in rows:
        grouped.setdefault((row["seed"], int(row["tokens"])), []).append(row)
    moments = []
    for (seed, tokens), some in grouped.items():
        by_head = {
            (int(row["layer"]), int(row["head"]), row["quantity"]): float(row["value"])
            for row in some
            if row["head"]
        }
        layers, heads = 1 + max(key[0] for key in by_head), 1 + max(key[1] for key in by_head)
        moments.append(
            _Moment(
                seed,
                tokens,
                max(float(row["value"]) for row in some if row["quantity"] == "chance"),
                value_of(next(row["value"] for row in some if row["quantity"] == "detectable")),
                [[by_head[layer, head, "score"] for head in range(heads)] for layer in range(layers)],
                {key[:2] for key, value in by_head.items() if key[2] == "above_chance" and value},
            )
        )
    return moments


def _maps(results: Results, moments: list[_Moment]) -> Figure:
    seeds = list(dict.fromkeys(moment.seed for moment in moments))
    times = sorted({moment.tokens for moment in moments})
    layers = len(moments[0].scores)
    wide = (WIDTH - _LEFT - 10) / len(times)
    tall = max(36.0, 11.0 * layers)
    top, bottom = 64, 40
    sheet = Sheet(top + (tall + 8) * len(seeds) + bottom)
    highest = max(moment.best for moment in moments)
    for moment in moments:
        row, column = seeds.index(moment.seed), times.index(moment.tokens)
        axes = sheet.axes(_LEFT + wide * column + 3, top + (tall + 8) * row, wide - 6, tall)
        cells(sheet, axes, moment.scores, highest, moment.above_chance)
        axes.set_xticks([])
        axes.set_yticks([])
    for row, seed in enumerate(seeds):
        sheet.text(_LEFT - 5, top + (tall + 8) * row + tall / 2, f"seed {seed}", fontsize=SMALL, ha="right")
    low = top + (tall + 8) * len(seeds)
    for column, tokens in enumerate(times):
        sheet.text(_LEFT + wide * (column + 0.5), low + 6, _thousands(tokens), fontsize=SMALL, ha="center")
    sheet.text(_LEFT + wide * len(times) / 2, low + 23, "training tokens, thousands", ha="center")
    scale(sheet, 14, highest, "retrieval score")
    some = sum(len(moment.above_chance) for moment in moments)
    sheet.text(_LEFT, 48, f"outlined: above chance ({some} of {_heads(moments)} heads)", fontsize=SMALL)
    first = moments[0]
    caption = (
        f"Retrieval scores of {len(seeds)} targets of {layers} layers (downwards) and {len(first.scores[0])} "
        f"heads (across), kept untrained and after doubling tokens. Outlined: heads above chance, one-sided "
        f"p < 0.01 over the heads of a checkpoint; {'none is' if not some else f'{some} are'}. Shades reach "
        f"from 0 to {highest:.3f}, the highest score of any."
    )
    return sheet.finish(results.prefix, "checkpoint-maps", "Heads while training", caption, (f"{_PAGE}.csv",))


def _heads(moments: list[_Moment]) -> int:
    return sum(len(moment.scores) * len(moment.scores[0]) for moment in moments)


def _best(results: Results, moments: list[_Moment]) -> Figure:
    sheet = Sheet(236)
    axes = sheet.axes(60, 30, WIDTH - 74, 164)
    seeds = list(dict.fromkeys(moment.seed for moment in moments))
    for number, seed in enumerate(seeds):
        own = [moment for moment in moments if moment.seed == seed]
        look = SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)], DASHES[number % len(DASHES)]
        points = [moment.tokens / 1000 for moment in own], [moment.best for moment in own]
        axes.plot(*points, color=LIGHT[look[0]], linestyle=look[2], linewidth=1.5)
        (marks,) = axes.plot(*points, color=LIGHT[look[0]], marker=look[1], markersize=5, linestyle="none")
        said = [f"seed {seed}, {moment.tokens:,} tokens: best head {moment.best:.4f}" for moment in own]
        sheet.tell(marks, *said)
    times = sorted({moment.tokens for moment in moments})
    bounds = [[moment for moment in moments if moment.tokens == tokens] for tokens in times]
    shown = [tokens / 1000 for tokens in times]
    (chance,) = axes.plot(
        shown, [max(m.chance for m in some) for some in bounds], color=LIGHT["muted"], linewidth=1
    )
    sheet.tell(
        chance, "chance: a head that looks at random visible positions, in the layer where it scores most"
    )
    known = [
        (at, max(value for m in some if (value := m.detectable) is not None))
        for at, some in zip(shown, bounds, strict=True)
        if any(m.detectable is not None for m in some)
    ]
    if known:
        (found,) = axes.plot(
            *zip(*known, strict=True), color=LIGHT["muted"], linewidth=1, linestyle=(0, (2, 2))
        )
        sheet.tell(found, "a head of this score would have been found with 80 % probability")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    axes.set_xlabel("training tokens, thousands")
    axes.set_ylabel("score of the best head")
    entries = [
        (f"seed {seed}", SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)], True)
        for number, seed in enumerate(seeds)
    ]
    sheet.key(12, entries, 4)
    caption = (
        "Retrieval score of each target's best head by tokens of training. Grey line: chance, in the layer "
        "where it is highest; dotted grey: a head of this score is found with 80 % probability."
    )
    return sheet.finish(
        results.prefix, "best-heads", "The best head while training", caption, (f"{_PAGE}.csv",)
    )


def _thousands(tokens: int) -> str:
    return f"{tokens / 1000:.0f}"
