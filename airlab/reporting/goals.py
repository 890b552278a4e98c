"""Two composites beside the one that verdicts stand on: looking things up, and plain text.

Which columns belong to either is fixed here, before any result. The choice sets belong to neither: they ask
for both.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from airlab.evaluation.records import Record
from airlab.reporting.formats import MISSING
from airlab.reporting.pages import Page, Section, numbers
from airlab.reporting.render import verdict_texts
from airlab.reporting.tables import (
    SEEDS_TO_CLAIM,
    Column,
    Row,
    TableSpec,
    Verdict,
    build_table,
    judge,
)
from airlab.stats.intervals import Comparison

IN_CONTEXT = ("key_retrieval", "copying", "reasoning_worked", "reasoning_final")
"""Tasks whose answers follow from the context."""

Key = tuple[str, str]
"""A goal and a variant."""


def goals_page(
    title: str, spec: TableSpec, records: Mapping[str, Iterable[Record]], *, partial: bool = False
) -> Page | None:
    """Every arm against the reference on each goal, all of it one family; None where no column has a goal.

    Raises:
        IncompleteTable: a cell has no result and `partial` is off.
    """
    found = {variant: tuple(some) for variant, some in records.items()}
    comparisons: dict[Key, Comparison | None] = {}
    for goal, columns in _goals(spec).items():
        table = build_table(replace(spec, columns=columns), found, partial=partial)
        comparisons |= {(goal, variant): one for variant, one in table.comparisons.items()}
    if not comparisons:
        return None
    # Judged by one name each; the key is taken apart again below.
    judged = judge({"/".join(key): one for key, one in comparisons.items()}, level=spec.level)
    verdicts = {key: judged["/".join(key)] for key in comparisons}
    return Page(
        name="goals",
        title=title,
        sections=tuple(_section(spec, goal, columns, verdicts) for goal, columns in _goals(spec).items()),
        foot=_foot(spec, verdicts),
        csv_header=("goal", "variant", "value", "low", "high", "p_holm", "detectable", "outcome"),
        csv_rows=tuple(_long(verdicts)),
    )


def _goals(spec: TableSpec) -> dict[str, tuple[Column, ...]]:
    """Columns by goal; a goal without any is left out."""
    whole = [replace(column, in_composite=True) for column in spec.columns]
    goals = {
        "looking up and reasoning": tuple(column for column in whole if column.task in IN_CONTEXT),
        "plain text": tuple(column for column in whole if column.metric == "bits_per_byte"),
    }
    return {goal: columns for goal, columns in goals.items() if columns}


def _section(
    spec: TableSpec, goal: str, columns: tuple[Column, ...], verdicts: Mapping[Key, Verdict | None]
) -> Section:
    reference = next(row.label for row in spec.rows if row.variant == spec.reference)
    rows = [(row.label, *verdict_texts(verdicts[goal, row.variant], reference)) for row in _compared(spec)]
    headers = ("arm", f"composite against {reference}", "Holm-adjusted p", "detectable", "verdict")
    return Section(f"{goal}: {'; '.join(column.label for column in columns)}", headers, tuple(rows))


def _compared(spec: TableSpec) -> list[Row]:
    return [row for row in spec.rows if row.variant != spec.reference]


def _foot(spec: TableSpec, verdicts: Mapping[Key, Verdict | None]) -> tuple[str, ...]:
    known = [verdict for verdict in verdicts.values() if verdict is not None]
    tested = sum(verdict.p_holm is not None for verdict in known)
    lines = [
        "Composites as in the table, each over the columns in its heading; positive is better. P-values are "
        f"Holm-adjusted over all {tested} comparisons of this page that could be tested, and over none of "
        "the table's.",
    ]
    if any(verdict.composite.n_runs < SEEDS_TO_CLAIM for verdict in known):
        lines.append(f"Nothing is claimed from fewer than {SEEDS_TO_CLAIM} seeds.")
    missing = sorted({variant for (_, variant), verdict in verdicts.items() if verdict is None})
    if missing:
        lines.append(f"Partial: {', '.join(missing)} not finished; adjusted p-values will grow with them.")
    return tuple(lines)


def _long(verdicts: Mapping[Key, Verdict | None]) -> Iterator[tuple[str, ...]]:
    for (goal, variant), verdict in verdicts.items():
        if verdict is None:
            yield (goal, variant, *[""] * 5, MISSING)
            continue
        told = verdict.composite
        ends = numbers(told.value, told.low, told.high, verdict.p_holm, verdict.detectable)
        yield (goal, variant, *ends, verdict.outcome)
