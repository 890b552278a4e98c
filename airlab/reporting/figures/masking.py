"""The masking check: what is lost without retrieval heads and without others, beside the paper's numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from airlab.reporting.figures.canvas import KEY_LINE, MARGIN, SMALL, WIDTH, Sheet, shortened
from airlab.reporting.figures.figure import Figure
from airlab.reporting.figures.palette import LIGHT
from airlab.reporting.figures.results import Results, Rows, in_words, signed, value_of
from airlab.reporting.formats import UNKNOWN, p_text
from airlab.reporting.masking import ARMS, COMPARED, INTACT, NAME, RANDOM, RETRIEVAL, SAME_LAYER

_LOOKS = {RANDOM: ("sky", "///"), SAME_LAYER: ("yellow", "\\\\\\"), RETRIEVAL: ("orange", "")}
"""Colour and hatching of an arm's bars."""

_BAR, _HEAD, _GAP = 9.0, 16.0, 7.0


def draw(results: Results) -> Iterator[Figure]:
    """Accuracy lost here and in the paper, differences in all tasks, and each draw alone."""
    rows = results.rows(NAME)
    if rows:
        yield _lost(results, rows)
        yield _differences(results, rows)
        yield _draws(results, rows)


@dataclass(frozen=True)
class _Task:
    """One task's bars: (arm, share lost, low, high)."""

    name: str
    intact: float | None
    bars: tuple[tuple[str, float | None, float | None, float | None], ...]
    said: str


def _tasks(rows: Rows) -> Iterator[_Task]:
    lost = [row for row in rows if row["quantity"] == "share lost"]
    for task, metric in dict.fromkeys((row["task"], row["metric"]) for row in lost):
        own = [row for row in lost if (row["task"], row["metric"]) == (task, metric)]
        bars = tuple(
            (row["arm"], value_of(row["value"]), value_of(row["low"]), value_of(row["high"])) for row in own
        )
        yield _Task(in_words(task), _intact(rows, "here", task, metric), bars, metric)


def _printed(rows: Rows) -> Iterator[_Task]:
    paper = [row for row in rows if row["source"] == "paper"]
    for task in dict.fromkeys(row["task"] for row in paper):
        values = {row["arm"]: float(row["value"]) for row in paper if row["task"] == task}
        bars = tuple((arm, 1 - values[arm] / values[INTACT], None, None) for arm in (RANDOM, RETRIEVAL))
        yield _Task(task, values[INTACT], bars, "paper")


def _intact(rows: Rows, source: str, task: str, metric: str) -> float | None:
    found = (
        row["value"]
        for row in rows
        if (row["source"], row["quantity"], row["task"], row["metric"], row["arm"])
        == (source, "value", task, metric, INTACT)
    )
    return value_of(next(found, ""))


def _lost(results: Results, rows: Rows) -> Figure:
    here, paper = list(_tasks(rows)), list(_printed(rows))
    height = sum(_HEAD + _BAR * len(task.bars) + _GAP for task in (*here, *paper))
    sheet = Sheet(40 + 22 + height + 26 + 48)
    values = [end for task in (*here, *paper) for _, *ends in task.bars for end in ends if end is not None]
    low, high = 100 * min([0.0, *values]), 100 * max([1.0, *values])
    entries = [(_name(arm), _LOOKS[arm][0], "s", True) for arm in (RANDOM, RETRIEVAL, SAME_LAYER)]
    sheet.key(12, entries[:2], 2)
    sheet.key(12 + KEY_LINE, entries[2:], 1)
    top = 40.0
    for title, tasks in (("Measured here", here), ("Printed in the paper", paper)):
        sheet.text(MARGIN, top + 10, title, fontweight="bold")
        top = _bars(sheet, tasks, top + 22, low, high, last=tasks is paper)
        top += 4
    draws = {row["n_draws"] for row in rows if row["arm"] == RANDOM and row["n_draws"]}
    items = sorted(
        {int(row["n_items"]) for row in rows if row["quantity"] == "share lost" and row["n_items"]}
    )
    caption = (
        "Share of the intact model's accuracy that masking takes, 1 − masked / intact; it counts from zero, "
        f"not from chance. Here: {_range(items)} items a task, random heads as means over "
        f"{', '.join(draws) or UNKNOWN} draws, lines are 95 % intervals. Paper: AttentionInfluence (arXiv "
        "2505.07293), Table 6, its 1.3B selector; other tasks, another model, no intervals, and no heads of "
        "the same layers."
    )
    title = "What masking heads takes, here and in the paper"
    return sheet.finish(results.prefix, "masking-lost", title, caption, (f"{NAME}.csv",))


def _name(arm: str) -> str:
    return ARMS[arm].removesuffix(" masked")


def _range(numbers: Sequence[int]) -> str:
    if not numbers:
        return UNKNOWN
    return f"{numbers[0]}" if len(set(numbers)) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _bars(sheet: Sheet, tasks: Sequence[_Task], top: float, low: float, high: float, last: bool) -> float:
    """Draw the tasks from `top` on; returns where they end."""
    for number, task in enumerate(tasks):
        intact = UNKNOWN if task.intact is None else f"{task.intact:.3f}"
        sheet.text(MARGIN, top + 8, shortened(task.name, 220))
        sheet.text(
            WIDTH - MARGIN, top + 8, f"intact {intact}", fontsize=SMALL, color=LIGHT["muted"], ha="right"
        )
        tall = _BAR * len(task.bars)
        axes = sheet.axes(MARGIN, top + _HEAD, WIDTH - 2 * MARGIN, tall)
        axes.set_xlim(low, high)
        axes.set_ylim(len(task.bars) - 0.5, -0.5)
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.axvline(0, color=LIGHT["muted"], linewidth=1)
        for row, (arm, value, *ends) in enumerate(task.bars):
            _bar(sheet, axes, row, task.name, arm, value, ends)
        top += _HEAD + tall + _GAP
        final = last and number == len(tasks) - 1
        axes.tick_params(length=3 if final else 0, labelbottom=final)
        if final:
            axes.spines["bottom"].set_visible(True)
            axes.set_xlabel("share of the intact accuracy that is lost, %")
    return top


def _bar(
    sheet: Sheet,
    axes: Any,
    row: int,
    task: str,
    arm: str,
    value: float | None,
    ends: Sequence[float | None],
) -> None:
    if value is None:
        sheet.interval(axes, row, None, None, None, f"{task}, {ARMS[arm]}: {UNKNOWN}")
        return
    colour, hatch = _LOOKS[arm]
    (bar,) = axes.barh(
        row, 100 * value, height=0.8, color=LIGHT[colour], hatch=hatch, edgecolor=LIGHT["paper"], linewidth=0
    )
    low, high = ends
    interval = "" if low is None or high is None else f" [{100 * low:.0f}, {100 * high:.0f}]"
    sheet.tell(bar, f"{task}, {ARMS[arm]}: {100 * value:.1f} % lost{interval}")
    if low is not None and high is not None:
        axes.plot([100 * low, 100 * high], [row, row], color=LIGHT["ink"], linewidth=1)


_AGAINST = {INTACT: ("blue", "o", True), RANDOM: ("green", "D", False), SAME_LAYER: ("purple", "^", False)}


def _differences(results: Results, rows: Rows) -> Figure:
    tested = [
        row for row in rows if row["quantity"] == "difference" and (row["arm"], row["reference"]) in COMPARED
    ]
    tasks = list(dict.fromkeys((row["task"], row["metric"]) for row in tested))
    tasks.sort(key=lambda task: task[0] == "all", reverse=True)
    tall = 34.0
    sheet = Sheet(48 + tall * len(tasks) + 42)
    axes = sheet.axes(132, 46, WIDTH - 132 - MARGIN, tall * len(tasks))
    found = {(row["task"], row["metric"], row["reference"]): _in_spreads(row) for row in tested}
    ends = [end for _, *some in found.values() for end in some if end is not None]
    reach = 1.06 * max([*map(abs, ends), 0.1])
    axes.set_xlim(-reach, max(0.3 * reach, 1.06 * max([*ends, 0.0])))
    axes.set_ylim(len(tasks) - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(axis="x")
    axes.axvline(0, color=LIGHT["muted"], linewidth=1)
    for number, (task, metric) in enumerate(tasks):
        name = "all, composite" if task == "all" else in_words(task.removeprefix("bits_per_byte_"))
        y = 46 + tall * (number + 0.5)
        sheet.text(MARGIN, y - (6 if task != "all" else 0), shortened(name, 112, SMALL), fontsize=SMALL)
        if task != "all":
            words = shortened(in_words(metric), 112, SMALL)
            sheet.text(MARGIN, y + 7, words, fontsize=SMALL, color=LIGHT["muted"])
        for line, (reference, (colour, marker, filled)) in enumerate(_AGAINST.items()):
            nothing = (f"{name}: {UNKNOWN}", None, None, None)
            said, value, low, high = found.get((task, metric, reference), nothing)
            at = number + 0.27 * (line - 1)
            sheet.interval(
                axes, at, value, low, high, said, colour=colour, marker=marker, filled=filled, size=5
            )
    axes.set_xlabel("standard deviations between items", x=0.5)
    entries = [(f"minus {_name(arm)}", *look) for arm, look in _AGAINST.items()]
    sheet.key(12, entries[:2], 2)
    sheet.key(12 + KEY_LINE, entries[2:], 1)
    items = sorted({int(row["n_items"]) for row in tested if row["n_items"] and row["task"] != "all"})
    caption = (
        "Retrieval heads masked, minus another arm: left of zero, masking them costs more. In units of the "
        "intact model's standard deviation between items, turned so that positive is better; lines are 95 % "
        f"intervals. {_range(items)} items a task; under the pointer: p-values, Holm-adjusted within each "
        "comparison."
    )
    title = "What retrieval heads are for, task by task"
    return sheet.finish(results.prefix, "masking-tasks", title, caption, (f"{NAME}.csv",))


def _in_spreads(row: dict[str, str]) -> tuple[str, float | None, float | None, float | None]:
    """What a mark says, and a difference with its interval in the composite's units."""
    value, low, high, unit = (value_of(row[name]) for name in ("value", "low", "high", "in_spreads"))
    words = (
        f"{in_words(row['task'])}, {in_words(row['metric'])}, minus {ARMS[row['reference']]}: "
        f"{signed(value, 3)} [{signed(low, 3)}, {signed(high, 3)}], p {p_text(value_of(row['p_holm']))}"
    )
    if value is None or unit is None or value == 0:  # without a difference its unit cannot be read off it
        return words, unit, None, None
    factor = unit / value
    first, last = (None if end is None else end * factor for end in (low, high))
    return (words, unit, first, last) if factor > 0 else (words, unit, last, first)


def _draws(results: Results, rows: Rows) -> Figure:
    alone = [row for row in rows if row["quantity"] == "difference" and ", draw " in row["arm"]]
    whole = [
        row
        for row in rows
        if (row["quantity"], row["task"], row["arm"], row["reference"])
        == ("difference", "all", RETRIEVAL, INTACT)
    ]
    drawn: list[tuple[str, str, dict[str, str]]] = [
        (arm, row["arm"].partition(", ")[2], row)
        for arm in _LOOKS
        for row in alone
        if row["arm"].startswith(f"{arm},")
    ]
    drawn += [(RETRIEVAL, "", row) for row in whole]
    tall = 17.0
    sheet = Sheet(34 + tall * len(drawn) + 42)
    axes = sheet.axes(150, 30, WIDTH - 150 - MARGIN, tall * len(drawn))
    ends = [
        end
        for *_, row in drawn
        for name in ("value", "low", "high")
        if (end := value_of(row[name])) is not None
    ]
    spread = max(ends, default=0.0) - min(ends, default=-1.0)
    axes.set_xlim(min([0.0, *ends]) - 0.04 * spread, max([0.0, *ends]) + 0.04 * spread)
    axes.set_ylim(len(drawn) - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(axis="x")
    axes.axvline(0, color=LIGHT["muted"], linewidth=1)
    marks = {
        RANDOM: ("sky", "o", False),
        SAME_LAYER: ("yellow", "s", False),
        RETRIEVAL: ("orange", "D", True),
    }
    for number, (arm, draw_name, row) in enumerate(drawn):
        value, low, high = (value_of(row[name]) for name in ("value", "low", "high"))
        name = {RANDOM: "random heads", SAME_LAYER: "same layers", RETRIEVAL: "retrieval heads"}[arm]
        words = f"{name}{', ' if draw_name else ''}{draw_name}"
        sheet.text(MARGIN, 30 + tall * (number + 0.5), shortened(words, 130, SMALL), fontsize=SMALL)
        colour, marker, filled = marks[arm]
        said = f"{words}: {signed(value)} [{signed(low)}, {signed(high)}]"
        sheet.interval(
            axes, number, value, low, high, said, colour=colour, marker=marker, filled=filled, size=6
        )
    axes.set_xlabel("composite minus intact, standard deviations", x=0.4)
    sheet.text(150, 14, "← masking costs more", fontsize=SMALL, color=LIGHT["muted"])
    items = sorted({int(row["n_items"]) for *_, row in drawn if row["n_items"]})
    caption = (
        "Each draw of random heads alone, and the retrieval heads: the composite over tasks minus that of "
        "the intact model, in standard deviations between items, with 95 % intervals over "
        f"{_range(items)} items. A draw may hit a head without which nothing works: one draw is no control."
    )
    return sheet.finish(
        results.prefix, "masking-draws", "Each draw of heads alone", caption, (f"{NAME}.csv",)
    )
