"""Whether step influence finds the steps that matter: areas under ROC curves, score by score."""

from collections.abc import Iterator

from airlab.reporting.evidence import INFLUENCE, NAME, QUESTIONS
from airlab.reporting.figures.canvas import MARGIN, SMALL, WIDTH, Sheet, shortened
from airlab.reporting.figures.figure import Figure
from airlab.reporting.figures.palette import LIGHT
from airlab.reporting.figures.results import Results, Rows, in_words, signed, value_of
from airlab.reporting.formats import UNKNOWN, p_text

_LABEL = 150
_ROW, _HEAD = 17.0, 24.0


def draw(results: Results) -> Iterator[Figure]:
    """One panel for every question, where the folder has the page."""
    rows = results.rows(NAME)
    within = [row for row in rows if row["quantity"] == "auc within traces" and not row["level"]]
    if within:
        steps = sum(int(row["value"]) for row in rows if row["quantity"] == "steps")
        yield _areas(results, within, steps)


def _areas(results: Results, rows: Rows, steps: int) -> Figure:
    asked = {
        question.title: [row for row in rows if row["question"] == question.name] for question in QUESTIONS
    }
    height = sum(_HEAD + _ROW * len(some) + 6 for some in asked.values())
    sheet = Sheet(26 + height + 42)
    entries = [("attention influence", "orange", "D", True), ("other scores of steps", "blue", "o", False)]
    sheet.key(12, entries, 2)
    top = 24.0
    for title, some in asked.items():
        sheet.text(MARGIN, top + 12, title, fontweight="bold")
        last = title == QUESTIONS[-1].title
        _panel(sheet, top + _HEAD, title, some, last)
        top += _HEAD + _ROW * len(some) + 6
    clusters = [int(row["clusters"]) for row in rows if row["clusters"]]
    told = f"{min(clusters)} to {max(clusters)}" if clusters else UNKNOWN
    caption = (
        "Area under the ROC curve within traces: probability that a step that is to score higher does; 0.5, "
        f"the line, is chance, and below it the order is reversed. {steps:,} steps in all, 95 % intervals "
        f"over {told} clusters (generators of problems). Under the pointer: p of influence against 0.5, "
        "Holm-adjusted over the questions; other scores are described."
    )
    title = "Which steps score high"
    return sheet.finish(results.prefix, "step-evidence", title, caption, (f"{NAME}.csv",))


def _panel(sheet: Sheet, top: float, title: str, rows: Rows, last: bool) -> None:
    axes = sheet.axes(_LABEL, top, WIDTH - _LABEL - MARGIN, _ROW * len(rows))
    axes.set_xlim(0, 1)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(axis="x")
    axes.axvline(0.5, color=LIGHT["muted"], linewidth=1)
    axes.tick_params(labelbottom=last, length=3 if last else 0)
    if last:
        axes.set_xlabel("area under the ROC curve")
    for number, row in enumerate(rows):
        own = row["score"] == INFLUENCE
        value, low, high = (value_of(row[name]) for name in ("value", "low", "high"))
        name = shortened(in_words(row["score"]), _LABEL - 24, SMALL)
        colour = LIGHT["ink" if own else "muted"]
        sheet.text(MARGIN, top + _ROW * (number + 0.5), name, fontsize=SMALL, color=colour)
        p_value = f", p {p_text(value_of(row['p_holm']))}" if own else ""
        interval = f"[{signed(low).lstrip('+')}, {signed(high).lstrip('+')}]"
        said = f"{title}, {in_words(row['score'])}: {signed(value).lstrip('+')} {interval}{p_value}"
        look = ("orange", "D") if own else ("blue", "o")
        sheet.interval(
            axes, number, value, low, high, said, colour=look[0], marker=look[1], filled=own, size=6
        )
