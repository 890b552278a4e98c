"""What scores look like: their distribution by domain, and what they go along with."""

from collections.abc import Iterator, Mapping
from typing import Any

from airlab.reporting.figures.canvas import KEY_LINE, MARGIN, SMALL, WIDTH, Sheet, shortened
from airlab.reporting.figures.figure import Figure
from airlab.reporting.figures.palette import LIGHT, MARKERS, SERIES
from airlab.reporting.figures.results import GATHERED, Results, signed

_SCORE = "attention influence, relative rise of the loss"
_ROW = 56
_CONFOUNDS = {
    "length": "tokens (logarithmic)",
    "repetition": "repeated 5-grams, share",
    "compression_ratio": "compression ratio",
    "base_loss": "base loss, nats a token",
}


def draw(results: Results) -> Iterator[Figure]:
    """Both figures, where they were gathered."""
    gathered = results.gathered or {}
    if "scores" in gathered:
        yield _distributions(results, gathered["scores"])
    if "confounds" in gathered:
        yield _beside(results, gathered["confounds"])


def _distributions(results: Results, found: Mapping[str, Any]) -> Figure:
    edges, domains, unit = found["edges"], found["domains"], found["unit"]
    sheet = Sheet(24 + _ROW * len(domains) + 44)
    for row, told in enumerate(domains):
        top = 24 + _ROW * row
        counted = f"n = {told['n']:,}"
        if told["selected"] is not None:
            counted += f", {told['selected']:,} selected"
        sheet.text(MARGIN, top + 8, shortened(told["domain"], 200))
        sheet.text(WIDTH - MARGIN, top + 8, counted, fontsize=SMALL, color=LIGHT["muted"], ha="right")
        axes = sheet.axes(MARGIN, top + 16, WIDTH - 2 * MARGIN, _ROW - 20)
        _histogram(sheet, axes, edges, told, unit)
        if row < len(domains) - 1:
            axes.set_xticklabels([])
        else:
            axes.set_xlabel(_SCORE)
    sheet.text(MARGIN, 11, "bar: middle half; gap in it: median", fontsize=SMALL, color=LIGHT["muted"])
    cut = "orange: lowest selected" if any(t["lowest_selected"] is not None for t in domains) else ""
    sheet.text(WIDTH - MARGIN, 11, cut, fontsize=SMALL, color=LIGHT["orange"], ha="right")
    total = sum(told["n"] for told in domains)
    caption = (
        f"Attention influence of {total:,} {unit}, (reference loss − base loss) / base loss, by domain. "
        f"Histograms of {len(edges) - 1} bins over one range, each as high as its fullest bin. Dark bar: "
        "25 to 75 %; gap in it: median; thin line: 5 to 95 %. "
        + ("Orange: the lowest score that was selected in the domain." if cut else "")
    )
    sources = (GATHERED, found["fingerprint"])
    return sheet.finish(results.prefix, "score-distributions", "Scores by domain", caption.strip(), sources)


def _histogram(sheet: Sheet, axes: Any, edges: list[float], told: Mapping[str, Any], unit: str) -> None:
    span = edges[-1] - edges[0] or 1.0
    axes.set_xlim(edges[0] - 0.01 * span, edges[-1] + 0.01 * span)
    most = max([*told["counts"], 1])
    axes.set_ylim(-0.34, 1.02)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    (steps,) = [
        axes.stairs([count / most for count in told["counts"]], edges, fill=True, color=LIGHT["up-4"])
    ]
    low, first, middle, third, high = told["quantiles"]
    said = f"{told['domain']}: {told['n']:,} {unit}; fullest bin {most:,}"
    sheet.tell(steps, said)
    spread = f"middle half {first:.3g} to {third:.3g}, 5 to 95 % {low:.3g} to {high:.3g}"
    quartiles = f"{told['domain']}: median {middle:.3g}, {spread}"
    axes.plot([low, high], [-0.17, -0.17], color=LIGHT["blue"], linewidth=1.2)
    (bar,) = axes.plot(
        [first, third], [-0.17, -0.17], color=LIGHT["blue"], linewidth=7, solid_capstyle="butt"
    )
    sheet.tell(bar, quartiles)
    axes.plot([middle, middle], [-0.29, -0.05], color=LIGHT["paper"], linewidth=1.8)
    if told["lowest_selected"] is not None:
        at = told["lowest_selected"]
        (cut,) = axes.plot([at, at], [-0.3, 1], color=LIGHT["orange"], linewidth=1.5, linestyle=(0, (4, 2)))
        sheet.tell(cut, f"{told['domain']}: selected from {at:.3g}")


def _beside(results: Results, found: Mapping[str, Any]) -> Figure:
    names, unit = found["domains"], found["unit"]
    top = 10 + KEY_LINE * -(-len(names) // 3)
    panel, gap = 164.0, 62.0
    sheet = Sheet(top + 2 * (panel + gap) + 4)
    looks = [(SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)]) for i in range(len(names))]
    sheet.key(12, [(name, *look, False) for name, look in zip(names, looks, strict=True)], 3)
    for number, (confound, label) in enumerate(_CONFOUNDS.items()):
        left = 50 + (number % 2) * 182
        axes = sheet.axes(left, top + 20 + (number // 2) * (panel + gap), 160, panel)
        _scatter(sheet, axes, found, confound)
        if confound == "length":
            _plain_decades(axes)
        axes.set_xlabel(label, fontsize=SMALL)
        axes.grid()
        if number % 2:
            axes.set_yticklabels([])
        else:
            axes.set_ylabel("attention influence")
        known = found["correlations"][confound]
        above = f"ρ {signed(known['spearman'])}; in domains {signed(known['within_domain'])}"
        sheet.text(left, top + 9 + (number // 2) * (panel + gap), above, fontsize=SMALL)
    part = (
        "" if found["shown"] == found["units"] else f" of {found['units']:,}, drawn by the hash of their ids"
    )
    told = (
        f"{_CONFOUNDS[name].partition(',')[0].removesuffix(' (logarithmic)')} {signed(ρ['spearman'])} "
        f"({signed(ρ['within_domain'])})"
        for name, ρ in found["correlations"].items()
    )
    caption = (
        f"Attention influence and what is seen without heads; marks: {found['shown']:,} {unit}{part}. "
        f"Spearman's ρ over all of them, in brackets that of ranks within domains: {'; '.join(told)}. "
        "Repetition: share of word 5-grams that occurred before in the text; compression: bytes over bytes "
        "after zstd."
    )
    sources = (GATHERED, *found["fingerprints"])
    return sheet.finish(results.prefix, "confounds", "What the score goes along with", caption, sources)


def _scatter(sheet: Sheet, axes: Any, found: Mapping[str, Any], confound: str) -> None:
    for number, name in enumerate(found["domains"]):
        own = [row for row, domain in enumerate(found["domain"]) if domain == number]
        colour = LIGHT[SERIES[number % len(SERIES)]]
        (marks,) = axes.plot(
            [found[confound][row] for row in own],
            [found["score"][row] for row in own],
            marker=MARKERS[number % len(MARKERS)],
            markersize=3.2,
            linestyle="none",
            markerfacecolor="none",
            markeredgecolor=colour,
            markeredgewidth=0.8,
            clip_on=False,
        )
        said = [f"{name}: {found['score'][row]:.3g} at {found[confound][row]:.4g}" for row in own]
        sheet.tell(marks, *said)


def _plain_decades(axes: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(10))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
