"""What training did: losses while training, and on held-out text at the end, arm by arm."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from airlab.reporting.figures.canvas import MARGIN, SMALL, WIDTH, Sheet, shortened
from airlab.reporting.figures.figure import Figure
from airlab.reporting.figures.palette import LIGHT
from airlab.reporting.figures.results import ESTIMATES, GATHERED, Results, in_words, signed
from airlab.reporting.formats import UNKNOWN

_POINTS = 60
_HELD_OUT = (("bits_per_byte", "bits_per_byte_", "bits a byte"), ("answer_nats", "worked_", "nats a byte"))
"""Metric, start of the tasks' names and unit of what is held-out text: documents, or else solutions."""


def draw(results: Results) -> Iterator[Figure]:
    """Held-out differences out of the table, and training curves where they were gathered."""
    if results.estimates is not None:
        yield from _held_out(results, results.estimates)
    curves = (results.gathered or {}).get("curves")
    if curves:
        yield _training(results, curves)


def _held_out(results: Results, found: Mapping[str, Any]) -> Iterator[Figure]:
    for metric, start, unit in _HELD_OUT:
        cells = [c for c in found["cells"] if c["metric"] == metric and c["task"].startswith(start)]
        if cells:
            yield _differences(results, found, cells, start, unit)
            return


def _differences(
    results: Results, found: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], start: str, unit: str
) -> Figure:
    tasks = list(dict.fromkeys(cell["task"] for cell in cells))
    arms = [arm for arm in dict.fromkeys(cell["variant"] for cell in cells) if arm != found["reference"]]
    by_place = {(cell["variant"], cell["task"]): cell for cell in cells}
    other = in_words(found["reference"])
    label, wide, row_height, head, foot = 150, 110, 15.0, 36, 30
    rows = -(-len(tasks) // 2)
    tall = row_height * len(arms)
    sheet = Sheet(26 + rows * (head + tall + foot) + 6)
    sheet.text(
        MARGIN, 12, f"← less loss than {shortened(other, 90)}; more →", fontsize=SMALL, color=LIGHT["muted"]
    )
    reach = _reach(cells)
    for number, task in enumerate(tasks):
        left = label + (number % 2) * (wide + 14)
        top = 26 + (number // 2) * (head + tall + foot) + head
        axes = sheet.axes(left, top, wide, tall)
        axes.set_xlim(-reach, reach)
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.locator_params(axis="x", nbins=3)
        axes.axvline(0, color=LIGHT["muted"], linewidth=1)
        own = by_place.get((found["reference"], task))
        value = None if own is None or own["value"] is None else own["value"]["value"]
        sheet.text(left, top - 25, shortened(in_words(task.removeprefix(start)), wide))
        known = UNKNOWN if value is None else f"{value:.3f}"
        sheet.text(
            left, top - 11, shortened(f"{other}: {known}", 128, SMALL), fontsize=SMALL, color=LIGHT["muted"]
        )
        for row, arm in enumerate(arms):
            if number % 2 == 0:
                name = shortened(in_words(arm), label - 22, SMALL)
                sheet.text(MARGIN, top + row_height * (row + 0.5), name, fontsize=SMALL)
            _difference(sheet, axes, row, in_words(arm), by_place.get((arm, task)), unit)
    sizes = sorted({c["value"]["n_items"] for c in cells if c["value"] is not None})
    items = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}" if sizes else UNKNOWN
    caption = (
        f"Loss on held-out text in {unit}, minus that of {other}, whose own stands above each panel; paired "
        f"over seeds and items, {100 * found['level']:g} % intervals, not corrected for their number. "
        f"{len(found['seeds'])} seeds, {items} items a column. Measured once, at the end of training."
    )
    title = f"Held-out loss against {other}"
    return sheet.finish(results.prefix, "held-out", title, caption, (ESTIMATES,))


def _reach(cells: Sequence[Mapping[str, Any]]) -> float:
    ends = [
        abs(cell["difference"][end])
        for cell in cells
        if cell["difference"] is not None
        for end in ("value", "low", "high")
        if cell["difference"][end] is not None
    ]
    return 1.1 * max(ends, default=1.0) or 1.0


def _difference(
    sheet: Sheet, axes: Any, row: int, arm: str, cell: Mapping[str, Any] | None, unit: str
) -> None:
    found = None if cell is None else cell["difference"]
    if cell is None or found is None:
        sheet.interval(axes, row, None, None, None, f"{arm}: {UNKNOWN}")
        return
    value = cell["value"]["value"]
    interval = f"[{signed(found['low'], 3)}, {signed(found['high'], 3)}]"
    said = f"{arm}: {value:.3f} {unit}, {signed(found['value'], 3)} {interval}"
    sheet.interval(axes, row, found["value"], found["low"], found["high"], said, size=5)


def _training(results: Results, curves: Sequence[Mapping[str, Any]]) -> Figure:
    arms = list(dict.fromkeys(curve["name"] for curve in curves))
    compared = str((results.estimates or {}).get("reference", ""))
    drawn = {arm: _mean_and_spread([c for c in curves if c["name"] == arm]) for arm in arms}
    unit, scale = ("thousands", 1e3) if max(c["tokens"][-1] for c in curves) < 2e6 else ("millions", 1e6)
    rows = -(-len(arms) // 2)
    head, tall, gap = 18, 66.0, 14.0
    sheet = Sheet(24 + rows * (head + tall + gap) + 34)
    low = min(float(np.min(least)) for _, _, least, _ in drawn.values())
    high = max(float(np.max(most)) for _, _, _, most in drawn.values())
    last = max(float(tokens[-1]) for tokens, *_ in drawn.values()) / scale
    entries = [("mean; shaded: range of seeds", "blue", "_", True)]
    if compared in drawn:
        entries.append((f"dashed: mean of {in_words(compared)}", "orange", "_", False))
    sheet.key(12, entries, 2)
    for number, arm in enumerate(arms):
        left = 48 + (number % 2) * 180
        top = 24 + (number // 2) * (head + tall + gap) + head
        axes = sheet.axes(left, top, 158, tall)
        axes.set_xlim(0, last)
        axes.set_ylim(low - 0.04 * (high - low), high + 0.04 * (high - low))
        axes.grid()
        axes.locator_params(nbins=4)
        bottom = number + 2 >= len(arms)
        axes.tick_params(length=0, labelbottom=bottom, labelleft=number % 2 == 0)
        if number % 2 == 0:
            axes.set_ylabel("nats a token", fontsize=SMALL)
        sheet.text(left, top - 9, shortened(in_words(arm), 158))
        _curve(sheet, axes, drawn, arm, compared, scale)
    sheet.text(WIDTH / 2, sheet.height - 10, f"training tokens, {unit}", ha="center")
    seeds = sorted({sum(curve["name"] == arm for curve in curves) for arm in arms})
    counted = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    updates = sorted({curve["updates"] for curve in curves})
    steps = f"{updates[0]:,}" if len(updates) == 1 else f"{updates[0]:,} to {updates[-1]:,}"
    caption = (
        f"Training loss in nats a token (weighted where an arm weighs its tokens), by tokens seen; {counted} "
        f"seeds an arm, {steps} updates each, thinned to {_POINTS} means or fewer. Each arm's is on its own "
        "mixture: a lower curve is an easier mixture and no better model. Held-out losses compare arms."
    )
    sources = (GATHERED, *(curve["fingerprint"] for curve in curves))
    return sheet.finish(results.prefix, "training", "Training loss", caption, sources)


_Spread = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _mean_and_spread(curves: Sequence[Mapping[str, Any]]) -> _Spread:
    """Tokens, mean, least and most over seeds, on tokens that all of them reached."""
    first = max(curve["tokens"][0] for curve in curves)
    last = min(curve["tokens"][-1] for curve in curves)
    tokens = np.linspace(first, last, min(len(curve["tokens"]) for curve in curves))
    values = np.array([np.interp(tokens, curve["tokens"], curve["loss"]) for curve in curves])
    return tokens, values.mean(axis=0), values.min(axis=0), values.max(axis=0)


def _curve(
    sheet: Sheet, axes: Any, drawn: Mapping[str, _Spread], arm: str, compared: str, scale: float
) -> None:
    tokens, mean, least, most = drawn[arm]
    band = axes.fill_between(tokens / scale, least, most, color=LIGHT["up-3"], linewidth=0)
    sheet.tell(band, f"{in_words(arm)}: range of seeds")
    if compared in drawn and arm != compared:
        other, its, *_ = drawn[compared]
        (line,) = axes.plot(other / scale, its, color=LIGHT["orange"], linewidth=1, linestyle=(0, (3, 2)))
        sheet.tell(line, f"{in_words(compared)}: {its[-1]:.3f} at the end")
    (line,) = axes.plot(tokens / scale, mean, color=LIGHT["blue"], linewidth=1.4)
    sheet.tell(line, f"{in_words(arm)}: {mean[0]:.3f} at first, {mean[-1]:.3f} at the end")
