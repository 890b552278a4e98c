"""All jobs of a sweep in one table: every arm of every job against the job's reference arm."""

from collections.abc import Sequence
from dataclasses import dataclass

from airlab.reporting.formats import MISSING
from airlab.reporting.pages import Page, Section, numbers
from airlab.reporting.render import verdict_texts
from airlab.reporting.tables import Table, Verdict, judge
from airlab.stats.estimate import Estimate

_HEADERS = ("job", "arm", "composite", "Holm-adjusted p", "detectable", "verdict")
_CSV_HEADER = (
    "job",
    "overrides",
    "arm",
    "reference",
    *("value", "low", "high", "level", "n_items", "n_runs"),
    *("p_holm", "detectable", "outcome"),
)


@dataclass(frozen=True)
class SweepJob:
    """One job's result.

    Attributes:
        told: the overrides that distinguish it.
        table: None where it has none, or nothing is there yet.
        complete: whether all that it should have is there.
    """

    number: int
    told: str
    table: Table | None
    complete: bool


def sweep_page(jobs: Sequence[SweepJob], shared: Sequence[str]) -> Page:
    """A row for every job and arm but the reference; p-values are corrected over all of them together.

    Args:
        shared: the overrides of all jobs.
    """
    verdicts = _judged(jobs)
    rows, csv_rows = [], []
    for job in jobs:
        title, head = f"{job.number} {job.told}".strip(), (str(job.number), job.told)
        if job.table is None:
            rows.append((title, *[MISSING if not job.complete else "–"] * (len(_HEADERS) - 1)))
            csv_rows.append((*head, *[""] * (len(_CSV_HEADER) - 3), _no_table(job)))
            continue
        labels = {row.variant: row.label for row in job.table.spec.rows}
        reference = job.table.spec.reference
        for arm in job.table.verdicts:
            verdict = verdicts[job.number, arm]
            rows.append((title, labels[arm], *verdict_texts(verdict, labels[reference])))
            csv_rows.append((*head, arm, reference, *_long(verdict)))
    return Page(
        name="sweep",
        title=f"Sweep of {len(jobs)} jobs" + (f": {' '.join(shared)}" if shared else ""),
        sections=(
            Section("Every arm against its job's reference arm, at equal tokens", _HEADERS, tuple(rows)),
        ),
        foot=_foot(jobs, verdicts),
        csv_header=_CSV_HEADER,
        csv_rows=tuple(csv_rows),
    )


_Verdicts = dict[tuple[int, str], Verdict | None]


def _judged(jobs: Sequence[SweepJob]) -> _Verdicts:
    tables = {job.number: job.table for job in jobs if job.table is not None}
    keys = {f"{number}/{arm}": (number, arm) for number, table in tables.items() for arm in table.verdicts}
    levels = {table.spec.level for table in tables.values()}
    if len(levels) > 1:
        raise ValueError("jobs of a sweep have tables of different levels")
    judged = judge(
        {key: tables[number].comparisons[arm] for key, (number, arm) in keys.items()},
        level=next(iter(levels), 0.95),
    )
    return {keys[key]: verdict for key, verdict in judged.items()}


def _no_table(job: SweepJob) -> str:
    return "no table" if job.complete else MISSING


def _long(verdict: Verdict | None) -> tuple[str, ...]:
    if verdict is None:
        return (*[""] * 8, MISSING)
    c: Estimate = verdict.composite
    return (
        *numbers(c.value, c.low, c.high, c.level, c.n_items, c.n_runs, verdict.p_holm, verdict.detectable),
        verdict.outcome,
    )


def _foot(jobs: Sequence[SweepJob], verdicts: _Verdicts) -> tuple[str, ...]:
    tested = sum(verdict is not None and verdict.p_holm is not None for verdict in verdicts.values())
    lines = [
        "Value [interval]: the composite of each job's own table: a paired difference at equal tokens, "
        "positive is better, in units of the between-item standard deviation of that job's full pool.",
        f"P-values are Holm-adjusted over the {tested} comparisons of the sweep that can be tested. "
        "Detectable: the true difference that would have been found with 80 % probability, so corrected.",
    ]
    runs = {v.composite.n_runs for v in verdicts.values() if v is not None}
    if 1 in runs:
        lines.append(
            "With one seed, intervals are over items only, and what another seed would give is unknown."
        )
    if any(not job.complete for job in jobs):
        lines.append(
            f"Partial: {', '.join(f'job {job.number}' for job in jobs if not job.complete)} not finished. "
            "P-values are corrected over what is there, and will grow."
        )
    return tuple(lines)
