"""Whether the top heads depend on the probes: variants of the probes, and how few of them suffice."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from airlab.reporting.figures.canvas import MARGIN, SMALL, WIDTH, Sheet, shortened
from airlab.reporting.figures.figure import Figure
from airlab.reporting.figures.palette import LIGHT
from airlab.reporting.figures.results import Results

if TYPE_CHECKING:
    from matplotlib.ticker import Locator

_PAGE = "stability"
_ROW = 24
_Numbers = dict[tuple[str, str], dict[str, float]]


def draw(results: Results) -> Iterator[Figure]:
    """Both figures, where the folder has the page."""
    found: _Numbers = {}
    for row in results.rows(_PAGE):
        if row["value"]:
            found.setdefault((row["what"], row["name"]), {})[row["quantity"]] = float(row["value"])
    if found:
        yield _variants(results, found)
        yield _number(results, found)


def _variants(results: Results, found: _Numbers) -> Figure:
    (default, first), *others = [(name, told) for (what, name), told in found.items() if what == "variant"]
    top = int(first["top"])
    yardstick = next((told for (what, _), told in found.items() if what == "two draws"), None)
    rows = len(others)
    sheet = Sheet(30 + _ROW * rows + 42)
    axes = sheet.axes(150, 30, WIDTH - 172, _ROW * rows)
    axes.set_xlim(-0.4, top + 0.4)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(axis="x")
    axes.set_xticks(range(0, top + 1, max(1, top // 7)))
    if yardstick is not None:
        span = axes.axvspan(
            yardstick["share_low"] * top, yardstick["share_high"] * top, color=LIGHT["band"], zorder=0
        )
        sheet.tell(span, f"disjoint draws of as many probes share {yardstick['share'] * top:.1f} on average")
    for row, (name, told) in enumerate(others):
        sheet.text(MARGIN, 30 + _ROW * (row + 0.5), shortened(name, 128, SMALL), fontsize=SMALL)
        said = (
            f"{name}, {told['probes']:.0f} probes: {told['shared']:.0f} of {top} shared with {default}; "
            f"Spearman of all heads {told['spearman']:.2f}"
        )
        sheet.interval(axes, row, told["shared"], None, None, said, size=8)
    axes.set_xlabel(f"heads of the top {top} shared with {default}")
    band = "" if yardstick is None else "grey: 90 % of disjoint draws of as many probes"
    sheet.text(WIDTH - 22, 14, band, fontsize=SMALL, color=LIGHT["muted"], ha="right")
    caption = (
        f"Of the best {top} heads, how many are the same when the probes have another seed, length, form or "
        f"other sentences than {default} ({first['probes']:.0f} probes of {first['tokens']:.0f} tokens). "
        + (
            "How much draws of as many probes differ is unknown: there is one seed."
            if yardstick is None
            else "Grey: what two disjoint draws of as many probes share, 5 to 95 % quantiles; a smaller "
            "difference cannot be told from the draw."
        )
    )
    title = "Retrieval heads by kind of probes"
    return sheet.finish(results.prefix, "probe-variants", title, caption, (f"{_PAGE}.csv",))


def _number(results: Results, found: _Numbers) -> Figure:
    subsets = sorted((int(name), told) for (what, name), told in found.items() if what == "subset")
    sheet = Sheet(236)
    axes = sheet.axes(52, 18, WIDTH - 66, 166)
    counts = [count for count, _ in subsets]
    band = axes.fill_between(
        counts,
        [100 * told["share_low"] for _, told in subsets],
        [100 * told["share_high"] for _, told in subsets],
        color=LIGHT["band"],
        linewidth=0,
    )
    sheet.tell(band, "5 to 95 % quantiles over draws")
    shares = [100 * told["share"] for _, told in subsets]
    axes.plot(counts, shares, color=LIGHT["blue"], linewidth=1.5)
    (marks,) = axes.plot(counts, shares, color=LIGHT["blue"], marker="o", markersize=6, linestyle="none")
    sheet.tell(
        marks,
        *(
            f"{count} probes against {told['others']:.0f} others: {told['share']:.0%} "
            f"[{told['share_low']:.0%}, {told['share_high']:.0%}]; Spearman {told['spearman']:.2f}"
            for count, told in subsets
        ),
    )
    axes.set_ylim(0, 103)
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.xaxis.set_minor_locator(_no_ticks())
    axes.grid(axis="y")
    axes.set_xlabel("probes (logarithmic)")
    axes.set_ylabel("top heads shared, %")
    caption = (
        "Share of the top heads that few probes have in common with all the others, mean over random draws; "
        f"grey: 5 to 95 % quantiles. Draws of {counts[0]} to {counts[-1]} probes; sets of a draw share none."
    )
    return sheet.finish(results.prefix, "probe-number", "How many probes suffice", caption, (f"{_PAGE}.csv",))


def _no_ticks() -> "Locator":
    from matplotlib.ticker import NullLocator

    return NullLocator()
