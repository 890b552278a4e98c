"""Variants of a setting: what each is worth against random, and whether it selects what the default does."""

from collections.abc import Iterator

from airlab.reporting.figures.canvas import MARGIN, SMALL, WIDTH, Sheet, shortened
from airlab.reporting.figures.effects import Effect, forest
from airlab.reporting.figures.figure import Figure
from airlab.reporting.figures.palette import LIGHT
from airlab.reporting.figures.results import Results, in_words, signed, value_of

_PAGES = ("ablations", "selector_size")
_ROW = 30
_Quantities = dict[str, dict[str, dict[str, str]]]


def draw(results: Results) -> Iterator[Figure]:
    """Both figures, for a page of variants."""
    for page in _PAGES:
        rows = results.rows(page)
        if not rows:
            continue
        found: _Quantities = {}
        for row in rows:
            found.setdefault(row["variant"], {})[row["quantity"]] = row
        yield _effects(results, page, found)
        yield _agreement(results, page, found)


def _effects(results: Results, page: str, found: _Quantities) -> Figure:
    effects = []
    for variant, told in found.items():
        row = told["composite"]
        value, low, high = (value_of(row[name]) for name in ("value", "low", "high"))
        tested = value_of(row["p_holm"]), value_of(row["detectable"])
        effects.append(Effect(in_words(variant), value, low, high, *tested, row["outcome"]))
    sizes = ", ".join(
        sorted({f"{int(told['documents']['value']):,}" for told in found.values() if "documents" in told})
    )
    caption = (
        "Attention influence under each setting against random under the same setting, at equal tokens; "
        "composite over the task columns in units of the full pool's standard deviation between items, right "
        "of zero is better. Lines: 95 % intervals. p: Holm-adjusted over the variants. Finds: the true "
        "difference that would have been found with 80 % probability; the grey bar ends there. Filled "
        f"triangles: told apart. Documents selected by a variant: {sizes or 'unknown'}."
    )
    title = "Attention influence against random, setting by setting"
    return forest(results, "variant-effects", title, caption, effects, "random", (f"{page}.csv",))


_STATISTICS = (
    ("within_domain", "ρ within domains", "blue", "o", True),
    ("spearman", "ρ, all documents", "green", "D", False),
    ("jaccard", "Jaccard", "orange", "s", False),
)


def _agreement(results: Results, page: str, found: _Quantities) -> Figure:
    compared = [variant for variant, told in found.items() if "jaccard" in told]
    sheet = Sheet(30 + _ROW * len(compared) + 42)
    axes = sheet.axes(130, 28, WIDTH - 130 - MARGIN, _ROW * len(compared))
    values = [
        value_of(told[name]["value"]) for told in found.values() for name, *_ in _STATISTICS if name in told
    ]
    axes.set_xlim(min([0.0, *(value for value in values if value is not None)]) - 0.02, 1.02)
    axes.set_ylim(len(compared) - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(axis="x")
    for row, variant in enumerate(compared):
        axes.axhline(row + 0.5, color=LIGHT["grid"], linewidth=0.7)
        sheet.text(MARGIN, 28 + _ROW * (row + 0.5), shortened(in_words(variant), 110, SMALL), fontsize=SMALL)
        shown = [entry for entry in _STATISTICS if entry[0] in found[variant]]
        for number, (name, words, colour, marker, filled) in enumerate(shown):
            told = found[variant][name]
            value, low, high = (value_of(told[end]) for end in ("value", "low", "high"))
            interval = "" if low is None else f" [{signed(low)}, {signed(high)}]"
            y = row + 0.26 * (number - (len(shown) - 1) / 2)
            said = f"{in_words(variant)}: {words} {signed(value)}{interval}"
            sheet.interval(
                axes, y, value, low, high, said, colour=colour, marker=marker, filled=filled, size=5
            )
    sheet.key(12, [entry[1:] for entry in _STATISTICS], 3)
    axes.set_xlabel("agreement with the default setting")
    caption = (
        "How each setting's ranking and selection agree with the default's. Spearman's ρ of scores, over all "
        "documents and as ranks within domains, with 95 % bootstrap intervals; Jaccard: documents that both "
        "select over those that either selects. Where only Jaccard is shown, the scores are the same."
    )
    title = "Agreement with the default setting"
    return sheet.finish(results.prefix, "variant-agreement", title, caption, (f"{page}.csv",))
