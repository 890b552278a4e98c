"""The masking check as a page: a model intact, with random heads masked, and with its retrieval heads masked.

The random arms exist once a draw, the intact model and the one without its retrieval heads exist once. A
difference between the two kinds is paired item by item, each draw with the same single run, so the grid of
such an arm holds its run once for every draw. That invents no evidence: a run that is repeated adds no
variation between draws, so the spread over draws in the difference is that of the random arm, and items,
which all draws share, count once (`airlab.stats.intervals.compare`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from airlab.evaluation.records import Record
from airlab.randomness import generator
from airlab.reporting.formats import MISSING, UNKNOWN, number, p_text
from airlab.reporting.pages import Page, Section, numbers
from airlab.reporting.tables import Column, IncompleteTable
from airlab.stats.estimate import Estimate
from airlab.stats.grid import Grid, arrange, paired_difference
from airlab.stats.intervals import Comparison, compare, interval
from airlab.stats.multiplicity import tested_together

NAME = "masking"
INTACT, RANDOM, SAME_LAYER, RETRIEVAL = "intact", "random", "same_layer", "retrieval"
ARMS = {
    INTACT: "intact",
    RANDOM: "random heads masked",
    SAME_LAYER: "random heads of the same layers masked",
    RETRIEVAL: "retrieval heads masked",
}
DRAWN = (RANDOM, SAME_LAYER)
"""Arms that exist once a draw."""

COMPARED = ((RETRIEVAL, INTACT), (RETRIEVAL, RANDOM), (RETRIEVAL, SAME_LAYER))
"""What is tested; nothing else is."""

LEVEL = 0.95
_RESAMPLES = 2000
_NOT_MEASURED = "-"

PAPER: dict[str, tuple[float, float, float]] = {
    "HellaSwag": (0.572, 0.552, 0.549),
    "WinoGrande": (0.606, 0.607, 0.580),
    "MMLU": (0.426, 0.417, 0.309),
    "MMLU-Pro": (0.129, 0.128, 0.031),
    "AGIEval-en": (0.205, 0.207, 0.130),
    "GPQA": (0.220, 0.207, 0.183),
    "DROP": (0.234, 0.219, 0.114),
    "BBH": (0.317, 0.301, 0.043),
    "GSM8K": (0.182, 0.127, 0.007),
    "HumanEval": (0.171, 0.116, 0.110),
}
"""AttentionInfluence (arXiv 2505.07293), Table 6, its 1.3B selector: intact, other heads masked at random,
retrieval heads masked. As printed; the paper gives no intervals."""


@dataclass(frozen=True)
class Check:
    """What the page shows, fixed before results exist.

    Attributes:
        accuracies: (task, metric) of columns that are a share of right answers: relative drops are theirs.
    """

    title: str
    columns: tuple[Column, ...]
    accuracies: frozenset[tuple[str, str]]
    draws: tuple[int, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tested:
    """One comparison of two arms in one column, or over all columns (column None)."""

    arm: str
    reference: str
    column: Column | None
    result: Comparison | None
    """None where an arm is missing, or the composite has no unit."""
    p_holm: float | None
    detectable: float | None
    """The smallest true difference found with 80 % probability."""
    in_spreads: float | None
    """The difference in the composite's units: the intact model's spread between items; positive is better,
    None where there is no spread."""


_Grids = dict[tuple[str, Column], Grid]


def masking_page(check: Check, records: Mapping[str, Sequence[Record]], *, partial: bool = False) -> Page:
    """The page from each arm's records; those of a drawn arm carry the draw in place of the seed.

    Raises:
        IncompleteTable: an arm lacks a draw or a column, and `partial` is off.
        ValueError: two arms were asked different items or versions of a task.
    """
    grids, holes = _grids(check, records)
    if holes and not partial:
        raise IncompleteTable(f"{len(holes)} results are missing: " + "; ".join(holes))
    tested = _tests(check, grids)
    alone = _alone(check, grids)
    values = {
        key: interval(grid, rng=generator(0, NAME, "value", key[0], *_purpose(key[1])), level=LEVEL)
        for key, grid in grids.items()
    }
    drops = {
        (arm, column): _drop(arm, column, *pair)
        for arm in ARMS
        for column in _accuracies(check)
        if arm != INTACT and (pair := _paired(grids, arm, INTACT, column)) is not None
    }
    return Page(
        name=NAME,
        title=check.title,
        sections=(
            _value_section(check, values),
            *(_difference_section(pair, tested) for pair in COMPARED),
            _draw_section(alone),
            _paper_section(check, values, drops),
        ),
        foot=tuple(_foot(check)),
        csv_header=_CSV_HEADER,
        csv_rows=tuple(_csv_rows(check, values, tested, alone, drops)),
    )


def _purpose(column: Column) -> tuple[str, str]:
    return column.task, column.metric


def _grids(check: Check, records: Mapping[str, Sequence[Record]]) -> tuple[_Grids, list[str]]:
    grids: _Grids = {}
    holes = []
    versions: dict[str, set[str]] = {}
    for arm in ARMS:
        wanted = set(check.draws) if arm in DRAWN else {0}
        by_column: dict[tuple[str, str], list[Record]] = {}
        for record in records.get(arm, ()):
            by_column.setdefault((record.task, record.metric), []).append(record)
        for column in check.columns:
            found = by_column.get((column.task, column.metric), [])
            if absent := sorted(wanted - {record.seed for record in found}):
                which = f" x draw {', '.join(map(str, absent))}" if arm in DRAWN else ""
                holes.append(f"{arm} x {column.task}/{column.metric}{which}")
                continue
            if any(record.higher_is_better != column.higher_is_better for record in found):
                raise ValueError(f"the page turns {column.task}/{column.metric} the wrong way round")
            seen = {record.task_version for record in found}
            if versions.setdefault(column.task, seen) != seen:
                raise ValueError(f"arms were evaluated on different versions of task {column.task}")
            grids[arm, column] = arrange((r.seed, r.item_hash, r.cluster, r.value) for r in found)
    return grids, holes


def _paired(grids: _Grids, arm: str, reference: str, column: Column) -> tuple[Grid, Grid] | None:
    """Both arms' values of one column with the same runs; an arm without draws is the same in each."""
    pair = (grids.get((arm, column)), grids.get((reference, column)))
    if pair[0] is None or pair[1] is None:
        return None
    runs = max((grid.runs for grid in pair if grid is not None), key=len)
    first, second = (_repeated(grid, runs) for grid in pair if grid is not None)
    return first, second


def _repeated(grid: Grid, runs: tuple[int, ...]) -> Grid:
    if len(grid.runs) > 1 or len(runs) == 1:
        return Grid(runs, grid.items, grid.values, grid.clusters)
    return Grid(runs, grid.items, np.repeat(grid.values, len(runs), axis=0), grid.clusters)


def _tests(check: Check, grids: _Grids) -> tuple[Tested, ...]:
    by_column = {
        (arm, reference): {column: _compare(grids, arm, reference, (column,)) for column in check.columns}
        for arm, reference in COMPARED
    }
    whole = {pair: _composite(check, grids, *pair) for pair in COMPARED}
    tested = []
    for arm, reference in COMPARED:
        found = by_column[arm, reference]
        adjusted = tested_together({_name(column): result for column, result in found.items()}, LEVEL)
        tested += [
            _tested(arm, reference, c, r, adjusted, _name(c), _unit(grids, c)) for c, r in found.items()
        ]
    adjusted = tested_together({_pair_name(*pair): result for pair, result in whole.items()}, LEVEL)
    tested += [_tested(*pair, None, r, adjusted, _pair_name(*pair), 1.0) for pair, r in whole.items()]
    return tuple(tested)


def _name(column: Column) -> str:
    return f"{column.task}/{column.metric}"


def _pair_name(arm: str, reference: str) -> str:
    return f"{arm} - {reference}"


def _compare(
    grids: _Grids,
    arm: str,
    reference: str,
    columns: Sequence[Column],
    scales: Sequence[float] | None = None,
) -> Comparison | None:
    differences = []
    for column in columns:
        pair = _paired(grids, arm, reference, column)
        if pair is None:
            return None
        differences.append(paired_difference(*pair))
    words = ("composite",) if scales is not None else _purpose(columns[0])
    rng = generator(0, NAME, "difference", arm, reference, *words)
    return compare(differences, rng=rng, level=LEVEL, resamples=_RESAMPLES, scales=scales)


def _composite(check: Check, grids: _Grids, arm: str, reference: str) -> Comparison | None:
    """Over the columns that count, in units of the intact model's spread between items; positive is better.

    None where an arm is missing, or where the intact model's items are all alike in a column.
    """
    columns = [column for column in check.columns if column.in_composite]
    units = [unit for column in columns if (unit := _unit(grids, column)) is not None]
    return _compare(grids, arm, reference, columns, units) if len(units) == len(columns) else None


def _unit(grids: _Grids, column: Column) -> float | None:
    """The intact model's spread between items, negative where lower is better; None where there is none."""
    intact = grids.get((INTACT, column))
    spread = 0.0 if intact is None or len(intact.items) < 2 else float(np.std(intact.values[0], ddof=1))
    return None if spread == 0 else spread if column.higher_is_better else -spread


def _alone(check: Check, grids: _Grids) -> dict[tuple[str, int | None], Comparison | None]:
    """(Arm, draw) -> its composite against the intact model: a draw may hold a head that breaks the model."""
    found: dict[tuple[str, int | None], Comparison | None] = {}
    for arm in ARMS:
        for draw in check.draws if arm in DRAWN else [None]:
            if arm == INTACT:
                continue
            only = {key: _one_run(grid, draw) for key, grid in grids.items() if key[0] in (arm, INTACT)}
            found[arm, draw] = _composite(check, only, arm, INTACT)
    return found


def _one_run(grid: Grid, draw: int | None) -> Grid:
    run = grid.runs.index(draw) if draw in grid.runs and len(grid.runs) > 1 else 0
    return Grid((0,), grid.items, grid.values[run : run + 1], grid.clusters)


def _tested(
    arm: str,
    reference: str,
    column: Column | None,
    result: Comparison | None,
    adjusted: Mapping[str, tuple[float, float]],
    name: str,
    unit: float | None,
) -> Tested:
    in_spreads = None if result is None or unit is None else result.estimate.value / unit
    p_holm, detectable = adjusted.get(name, (None, None))
    return Tested(arm, reference, column, result, p_holm, detectable, in_spreads)


def _accuracies(check: Check) -> list[Column]:
    return [column for column in check.columns if (column.task, column.metric) in check.accuracies]


def _drop(arm: str, column: Column, masked: Grid, intact: Grid) -> Estimate | None:
    """Which share of the intact model's accuracy is gone, 1 - masked / intact; None if it has none to lose.

    A ratio's error by linearisation: item by item (ratio x intact - masked) / mean of intact has the ratio's
    error to first order, and the drop is added to it as a constant.
    """
    mean = float(intact.values.mean())
    if mean <= 0:
        return None
    ratio = float(masked.values.mean()) / mean
    scaled = Grid(intact.runs, intact.items, ratio * intact.values, intact.clusters)
    linear = paired_difference(scaled, masked).values / mean + (1 - ratio)
    grid = Grid(intact.runs, intact.items, linear, intact.clusters)
    rng = generator(0, NAME, "drop", arm, *_purpose(column))
    return compare([grid], rng=rng, level=LEVEL, resamples=_RESAMPLES).estimate


def _label(column: Column) -> str:
    arrow = "↑" if column.higher_is_better else "↓"
    chance = "" if column.chance is None else f" (chance {column.chance:.3g})"
    return f"{column.label} {arrow}{chance}"


def _value_section(check: Check, values: Mapping[tuple[str, Column], Estimate]) -> Section:
    rows = tuple(
        (_label(column), *(_text(values.get((arm, column))) for arm in ARMS)) for column in check.columns
    )
    return Section("Values", ("task", *ARMS.values()), rows)


def _text(estimate: Estimate | None, *, sign: bool = False) -> str:
    return MISSING if estimate is None else estimate.text(3, sign=sign)


def _difference_section(pair: tuple[str, str], tested: Sequence[Tested]) -> Section:
    rows = []
    for test in tested:
        if (test.arm, test.reference) != pair:
            continue
        label = "all tasks, composite ↑" if test.column is None else _label(test.column)
        if test.result is None:
            rows.append((label, MISSING if test.column is not None else UNKNOWN, *[UNKNOWN] * 3))
            continue
        told_apart = test.p_holm is not None and test.p_holm <= 1 - LEVEL
        rows.append(
            (
                label,
                _text(test.result.estimate, sign=True),
                UNKNOWN if test.in_spreads is None else f"{round(test.in_spreads, 2) + 0.0:+.2f}",
                p_text(test.p_holm),
                "" if told_apart else number(test.detectable, 3),
            )
        )
    title = f"{ARMS[pair[0]].capitalize()} minus {ARMS[pair[1]]}"
    headers = ("task", "difference", "in spreads ↑", "Holm-adjusted p", "would have been found")
    return Section(title, headers, tuple(rows))


def _draw_section(alone: Mapping[tuple[str, int | None], Comparison | None]) -> Section:
    rows = tuple(
        (
            ARMS[arm] if draw is None else f"{ARMS[arm]}, draw {draw}",
            UNKNOWN if result is None else _text(result.estimate, sign=True),
        )
        for (arm, draw), result in alone.items()
    )
    return Section("Each draw alone, minus intact", ("masked", "all tasks, composite ↑"), rows)


def _paper_section(
    check: Check,
    values: Mapping[tuple[str, Column], Estimate],
    drops: Mapping[tuple[str, Column], Estimate | None],
) -> Section:
    ours = _accuracies(check)
    rows = []
    for task in PAPER:
        rows.append(_paper_row(task))
        rows += [_our_row(column, values, drops) for column in ours if column.task == task]
    rows += [_our_row(column, values, drops) for column in ours if column.task not in PAPER]
    masked = [arm for arm in ARMS if arm != INTACT]
    headers = ("task", *ARMS.values(), *(f"lost: {ARMS[arm].removesuffix(' masked')}" for arm in masked))
    return Section("The paper's table, and the share of accuracy that masking takes", headers, tuple(rows))


def _paper_row(task: str) -> tuple[str, ...]:
    intact, random, retrieval = PAPER[task]
    shown = (f"{intact:.3f}", f"{random:.3f}", _NOT_MEASURED, f"{retrieval:.3f}")
    lost = (_share(1 - random / intact), _NOT_MEASURED, _share(1 - retrieval / intact))
    return (f"{task}, paper", *shown, *lost)


def _share(value: float) -> str:
    return f"{round(100 * value, 1) + 0.0:.1f} %"  # a rounded zero has no sign


def _our_row(
    column: Column,
    values: Mapping[tuple[str, Column], Estimate],
    drops: Mapping[tuple[str, Column], Estimate | None],
) -> tuple[str, ...]:
    shown = []
    for arm in ARMS:
        value = values.get((arm, column))
        shown.append(MISSING if value is None else f"{value.value:.3f}")
    lost = [
        _lost_text(drops[arm, column]) if (arm, column) in drops else MISSING for arm in ARMS if arm != INTACT
    ]
    return (f"{_label(column)}, here", *shown, *lost)


def _lost_text(drop: Estimate | None) -> str:
    if drop is None:
        return UNKNOWN
    if drop.low is None or drop.high is None:
        return f"{_share(drop.value)} [unknown]"
    return f"{_share(drop.value)} [{_share(drop.low)}, {_share(drop.high)}]"


def _foot(check: Check) -> Iterator[str]:
    composite = "; ".join(column.label for column in check.columns if column.in_composite)
    yield (
        f"Value [interval]; {100 * LEVEL:g} % intervals. Random arms: means over {len(check.draws)} draws of "
        "heads, intervals over draws and items. The other two exist once, and their intervals are over items "
        "only. None covers how other probes would have found other heads."
    )
    yield (
        "Differences are paired item by item, each draw with the one run of the arm that has no draws. "
        "P-values are Holm-adjusted within each comparison, over its tasks and metrics; those of the "
        f"composite over the three comparisons. Where two arms are not told apart at {1 - LEVEL:.2g}, the "
        "last column is the true difference that would have been found with 80 % probability."
    )
    yield (
        "Draws alone are described, not tested; their intervals are over items only. A draw may hold a head "
        "without which the model cannot do anything, and the mean over few draws then hangs on it."
    )
    yield (
        "In spreads: the difference in units of the intact model's standard deviation between items, turned "
        f"so that positive is better; the composite is the mean of these over {composite}."
    )
    yield (
        "Paper: AttentionInfluence (arXiv 2505.07293), Table 6, its 1.3B selector, as printed: other tasks, "
        "another model, no intervals. Shares lost are derived from it; they count from zero, not from chance."
    )
    yield from check.notes


_CSV_HEADER = (
    "source",
    "quantity",
    "task",
    "metric",
    "higher_is_better",
    "arm",
    "reference",
    "value",
    "low",
    "high",
    "p_holm",
    "detectable",
    "in_spreads",
    "n_items",
    "n_draws",
)


def _csv_rows(
    check: Check,
    values: Mapping[tuple[str, Column], Estimate],
    tested: Sequence[Tested],
    alone: Mapping[tuple[str, int | None], Comparison | None],
    drops: Mapping[tuple[str, Column], Estimate | None],
) -> Iterator[tuple[str, ...]]:
    for column in check.columns:
        for arm in ARMS:
            yield _csv_row("value", column, arm, "", values.get((arm, column)))
    for test in tested:
        estimate = None if test.result is None else test.result.estimate
        pair = (test.arm, test.reference)
        more = (test.p_holm, test.detectable, test.in_spreads)
        yield _csv_row("difference", test.column, *pair, estimate, *more)
    for (arm, draw), result in alone.items():
        if draw is not None:
            estimate = None if result is None else result.estimate
            yield _csv_row("difference", None, f"{arm}, draw {draw}", INTACT, estimate)
    for (arm, column), drop in drops.items():
        yield _csv_row("share lost", column, arm, INTACT, drop)
    for task, printed in PAPER.items():
        for arm, value in zip((INTACT, RANDOM, RETRIEVAL), printed, strict=True):
            yield ("paper", "value", task, "", "True", arm, "", repr(value), *[""] * 7)


def _csv_row(
    quantity: str,
    column: Column | None,
    arm: str,
    reference: str,
    estimate: Estimate | None,
    p_holm: float | None = None,
    detectable: float | None = None,
    in_spreads: float | None = None,
) -> tuple[str, ...]:
    task = (
        ("all", "composite", "True") if column is None else (*_purpose(column), str(column.higher_is_better))
    )
    if estimate is None:
        return ("here", quantity, *task, arm, reference, *[""] * 8)
    found = numbers(estimate.value, estimate.low, estimate.high, p_holm, detectable, in_spreads)
    return ("here", quantity, *task, arm, reference, *found, *numbers(estimate.n_items, estimate.n_runs))
