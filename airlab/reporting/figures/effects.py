"""Forest plots: every variant's composite difference with its interval, p-value and detectable difference."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airlab.reporting.figures.canvas import MARGIN, SMALL, WIDTH, Sheet, shortened, text_width
from airlab.reporting.figures.figure import Figure
from airlab.reporting.figures.palette import LIGHT
from airlab.reporting.figures.results import ESTIMATES, Results, in_words, signed
from airlab.reporting.formats import UNKNOWN, number, p_text

_TOP, _ROW, _AXIS = 26, 38, 44
_MARKS = {"beat": ("^", "green"), "lost to": ("v", "orange")}
_NOT_TOLD_APART = ("o", "blue")


@dataclass(frozen=True)
class Effect:
    """One line of a forest plot; None is unknown.

    Attributes:
        outcome: of the comparison in words; empty where nothing was tested.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    p_holm: float | None
    detectable: float | None
    outcome: str = ""


def draw(results: Results) -> Iterator[Figure]:
    """The table's variants against its reference arm, and against its baseline."""
    found = results.estimates
    if found is None:
        return
    spec = (
        (
            "effects",
            "reference",
            "verdicts",
            "Each variant against {}",
            "An arm beat or lost to {} only where the Holm-adjusted p-value says so: filled triangles. ",
        ),
        (
            "effects-baseline",
            "baseline",
            "against_baseline",
            "Each variant against {}",
            "This is no verdict: which comparison counts was fixed before the runs. ",
        ),
    )
    for name, to, key, title, verdict in spec:
        effects = tuple(_effect(variant, found[key][variant]) for variant in _order(found, key))
        other = in_words(found[to])
        sizes = sorted({g["composite"]["n_items"] for g in found[key].values() if g})
        items = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}" if sizes else UNKNOWN
        caption = (
            f"Composite: mean over the task columns of the paired difference to {other}, in units of the "
            f"standard deviation between items of {in_words(found['baseline'])}; right of zero is better. "
            f"Points: estimates over {len(found['seeds'])} seeds and {items} items; lines: "
            f"{100 * found['level']:g} % intervals. p: Holm-adjusted over all variants shown. Finds: the "
            "true difference that would have been found with 80 % probability; the grey bar ends there. "
            + verdict.format(other)
        )
        yield forest(results, name, title.format(other), caption.strip(), effects, other, (ESTIMATES,))


def _order(found: Mapping[str, Any], key: str) -> list[str]:
    """Variants as the table has them."""
    rows = dict.fromkeys(cell["variant"] for cell in found["cells"])
    return [*(v for v in rows if v in found[key]), *(v for v in found[key] if v not in rows)]


def _effect(variant: str, given: Mapping[str, Any] | None) -> Effect:
    if given is None:
        return Effect(in_words(variant), None, None, None, None, None)
    composite = given["composite"]
    return Effect(
        in_words(variant),
        composite["value"],
        composite["low"],
        composite["high"],
        given["p_holm"],
        given["detectable"],
        given.get("outcome", ""),
    )


def forest(
    results: Results,
    name: str,
    title: str,
    caption: str,
    effects: Sequence[Effect],
    other: str,
    sources: Sequence[str],
) -> Figure:
    """One line of numbers and one of marks for every effect, over a common axis."""
    height = _TOP + _ROW * len(effects) + _AXIS
    sheet = Sheet(height)
    axes = sheet.axes(MARGIN, _TOP - 4, WIDTH - MARGIN - MARGIN, _ROW * len(effects) + 4)
    reach = _reach(effects)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(len(effects), -0.1)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("composite difference, standard deviations between items")
    sheet.text(MARGIN, 11, f"← {shortened(other, 120)} better", fontsize=SMALL, color=LIGHT["muted"])
    sheet.text(WIDTH - MARGIN, 11, "variant better →", fontsize=SMALL, color=LIGHT["muted"], ha="right")
    for row, effect in enumerate(effects):
        numbers = _numbers(effect)
        room = WIDTH - MARGIN - MARGIN - text_width(numbers, SMALL) - 10
        y = _TOP + _ROW * row + 9
        sheet.text(MARGIN, y, shortened(effect.name, room), color=LIGHT["ink"])
        sheet.text(WIDTH - MARGIN, y, numbers, fontsize=SMALL, color=LIGHT["muted"], ha="right")
        _mark(sheet, axes, row + 0.7, effect, reach)
    return sheet.finish(results.prefix, name, title, caption, sources)


def _reach(effects: Sequence[Effect]) -> float:
    ends = [abs(end) for e in effects for end in (e.value, e.low, e.high) if end is not None]
    return 1.08 * max(ends, default=1.0) or 1.0


def _numbers(effect: Effect) -> str:
    if effect.value is None:
        return UNKNOWN
    known = effect.low is not None and effect.high is not None
    interval = f"[{signed(effect.low)}, {signed(effect.high)}]" if known else f"[{UNKNOWN}]"
    detectable = number(effect.detectable, 2)
    return f"{signed(effect.value)} {interval} · p {p_text(effect.p_holm)} · finds {detectable}"


def _mark(sheet: Sheet, axes: Any, y: float, effect: Effect, reach: float) -> None:
    said = f"{effect.name}: {_numbers(effect)}" + (f"; {effect.outcome}" if effect.outcome else "")
    axes.plot([0, 0], [y - 0.24, y + 0.24], color=LIGHT["muted"], linewidth=1, zorder=1)
    if effect.detectable is not None:
        end = min(effect.detectable, reach)
        (band,) = axes.barh(y, 2 * end, left=-end, height=0.32, color=LIGHT["band"], zorder=0.5)
        sheet.tell(
            band, f"{effect.name}: a true difference below {effect.detectable:.3f} would likely be missed"
        )
    marker, colour = _MARKS.get(effect.outcome, _NOT_TOLD_APART)
    told_apart = effect.outcome in _MARKS
    ends = effect.value, effect.low, effect.high
    sheet.interval(axes, y, *ends, said, colour=colour, marker=marker, filled=told_apart, size=7)
