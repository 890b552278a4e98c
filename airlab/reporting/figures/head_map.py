"""Head maps: which heads retrieve, and which of them were masked."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airlab.reporting.figures.canvas import SMALL, WIDTH, Sheet
from airlab.reporting.figures.figure import Figure
from airlab.reporting.figures.palette import LIGHT, sequential
from airlab.reporting.figures.results import GATHERED, Results

_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 62, 36
_TALLEST = 420
"""Points of a map's cells."""


def draw(results: Results) -> Iterator[Figure]:
    """A map for every ranking that was gathered."""
    maps = (results.gathered or {}).get("head_maps", [])
    for number, found in enumerate(maps, 1):
        which = f" {number} of {len(maps)}" if len(maps) > 1 else ""
        yield _map(results, "head-map" + (f"-{number}" if which else ""), which, found)


def _map(results: Results, name: str, which: str, found: Mapping[str, Any]) -> Figure:
    scores: Sequence[Sequence[float]] = found["scores"]
    masked = {tuple(head) for head in found["masked"] or ()}
    layers, heads = len(scores), len(scores[0])
    cell = min(14.0, _TALLEST / layers)
    sheet = Sheet(_TOP + cell * layers + _BOTTOM)
    axes = sheet.axes(_LEFT, _TOP, WIDTH - _LEFT - _RIGHT, cell * layers)
    highest = max(max(row) for row in scores)
    cells(sheet, axes, scores, highest, masked)
    axes.set_xlabel("head")
    axes.set_ylabel("layer")
    axes.set_xticks(range(0, heads, max(1, heads // 10)))
    axes.set_yticks(range(0, layers, max(1, layers // 10)))
    axes.tick_params(length=0)
    scale(sheet, 14, highest, "retrieval score")
    marked = (
        f"outlined: {len(masked)} masked heads" if found["masked"] is not None else "masked heads unknown"
    )
    sheet.text(_LEFT, 46, f"{marked}; looking anywhere scores {found['chance']:.2g}", fontsize=SMALL)
    caption = (
        f"Retrieval score of every head, 0 to 1: mean over {found['probes']} probes of the share of the "
        "answer's tokens that the head's highest attention points at. A head that looks at random visible "
        f"positions scores {found['chance']:.2g} (chance). The model predicts "
        f"{found['answer_accuracy']:.0%} of the answers' tokens. Layers and heads count from 0. "
        + (
            f"Outlined: the {len(masked)} of {layers * heads} heads that the reference model has masked."
            if found["masked"] is not None
            else "Which heads were masked is unknown: the pass that masked them is not in the store."
        )
    )
    sources = (GATHERED, found["fingerprint"])
    return sheet.finish(results.prefix, name, f"Retrieval heads{which}", caption, sources)


def cells(
    sheet: Sheet,
    axes: Any,
    scores: Sequence[Sequence[float]],
    highest: float,
    outlined: set[tuple[int, ...]],
) -> None:
    """A rectangle for every head, layers downwards, darker for a higher score."""
    from matplotlib.patches import Rectangle

    axes.set_xlim(-0.5, len(scores[0]) - 0.5)
    axes.set_ylim(len(scores) - 0.5, -0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for layer, row in enumerate(scores):
        for head, score in enumerate(row):
            ring = (layer, head) in outlined
            patch = Rectangle(
                (head - 0.45, layer - 0.42),
                0.9,
                0.84,
                facecolor=sequential(score, highest),
                edgecolor=LIGHT["ink"] if ring else "none",
                linewidth=1.6 if ring else 0,
                clip_on=False,
            )
            axes.add_artist(patch)  # limits are set, and many patches would each ask for them
            sheet.tell(patch, f"layer {layer}, head {head}: {score:.3f}" + (", marked" if ring else ""))


def scale(sheet: Sheet, y: float, highest: float, words: str) -> None:
    """Which shade means what."""
    from matplotlib.patches import Rectangle

    sheet.text(_LEFT, y, words, fontsize=SMALL, color=LIGHT["muted"])
    for step in range(6):
        x = 150 + 40 * step
        sheet.drawing.add_artist(
            Rectangle(
                (x / WIDTH, 1 - (y + 6) / sheet.height),
                38 / WIDTH,
                12 / sheet.height,
                facecolor=LIGHT[f"up-{step}"],
                edgecolor=LIGHT["muted"],
                linewidth=0.4,
                transform=sheet.drawing.transFigure,
            )
        )
        sheet.text(
            x + 19, y + 15, f"{highest * step / 5:.2g}", fontsize=SMALL, color=LIGHT["muted"], ha="center"
        )
