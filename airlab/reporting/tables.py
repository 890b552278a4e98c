"""Variants x tasks: values with intervals, paired differences to the reference arm, verdicts.

The composite on which a verdict stands is named before any result is seen: the mean over its columns of
the paired difference (variant - reference, same seeds, same items; turned so that positive is better),
in units of the between-item standard deviation of the baseline arm (the full pool) in that column. Every
column weighs the same; none is left out when its results are missing. Seeds are drawn jointly for all
columns, items within each. P-values of the verdicts are Holm-adjusted over all variants compared.

The same differences are also taken to the baseline arm. They have no verdicts, and their p-values are
Holm-adjusted among themselves: which of the two is asked was fixed before, so they are two families.

One seed tells nothing about another: its p-values and detectable differences are unknown, and nothing is
claimed from fewer than `SEEDS_TO_CLAIM`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from airlab.errors import UserError
from airlab.evaluation.records import Record
from airlab.randomness import generator
from airlab.stats.estimate import Estimate
from airlab.stats.grid import Grid, arrange, paired_difference
from airlab.stats.intervals import Comparison, compare, interval
from airlab.stats.multiplicity import tested_together

Outcome = Literal[
    "beat",
    "did not beat",
    "lost to",
    "is not claimed to beat",
    "is not claimed to lose to",
    "unknown against",
]

SEEDS_TO_CLAIM = 3


class IncompleteTable(ValueError):
    """Cells without results; the message lists them all."""


@dataclass(frozen=True)
class Row:
    """A variant (an arm of the experiment)."""

    variant: str
    label: str


@dataclass(frozen=True)
class Column:
    """A metric of a task."""

    task: str
    metric: str
    higher_is_better: bool
    label: str
    in_composite: bool = True
    """Whether verdicts count this column. A task shown by several metrics should count once."""
    chance: float | None = None
    """What guessing scores, for accuracies."""


_UNITS = {
    "bits_per_byte": "bits/byte",
    "answer_nats": "nats/byte of the answer",
    "margin": "margin in nats/byte",
    "exact_match": "share",
}


def column_label(task: str, metric: str) -> str:
    """A task's metric in words, with its unit."""
    words = task.removeprefix(f"{metric}_").replace("_", " ")
    return f"{words}, {_UNITS.get(metric, metric)}"


@dataclass(frozen=True)
class TableSpec:
    """What a table shows, fixed before results exist."""

    title: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    seeds: tuple[int, ...]
    reference: str = "random"
    """The variant that differences are taken to (equal tokens, same seeds and items)."""
    baseline: str = "full_pool"
    """The variant whose between-item spread is the unit of the composite."""
    baseline_at: str = "at equal tokens"
    """How the baseline compares with the other arms, in the words of a heading."""
    level: float = 0.95
    resamples: int = 2000
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        variants = [row.variant for row in self.rows]
        if len(set(variants)) != len(variants):
            raise ValueError("a variant has two rows")
        keys = [(column.task, column.metric) for column in self.columns]
        if len(set(keys)) != len(keys) or not any(column.in_composite for column in self.columns):
            raise ValueError("a table needs columns, each once, and one at least in the composite")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError("a table needs seeds, each once")
        for needed in (self.reference, self.baseline):
            if needed not in variants:
                raise ValueError(f"the table has no row for {needed}")


@dataclass(frozen=True)
class Cell:
    """One variant in one column.

    `difference` (to the reference) is None in the reference's own row, `to_baseline` in the baseline's.
    """

    value: Estimate
    difference: Estimate | None
    to_baseline: Estimate | None


@dataclass(frozen=True)
class Contrast:
    """A variant against another on the composite."""

    composite: Estimate
    p_holm: float | None
    """None where the error is unknown, as that between seeds is with a single one."""
    detectable: float | None
    """The smallest true composite found with 80 % probability, in the composite's units; None as above."""


@dataclass(frozen=True)
class Verdict(Contrast):
    """How a variant did against the reference."""

    outcome: Outcome


@dataclass(frozen=True)
class Table:
    """Computed cells; a hole is None and exists only in a table asked for with ``partial=True``."""

    spec: TableSpec
    cells: dict[tuple[str, str, str], Cell | None]
    """(variant, task, metric) -> cell."""
    verdicts: dict[str, Verdict | None]
    """Variant -> verdict; no entry for the reference, None where columns are missing."""
    against_baseline: dict[str, Contrast | None]
    """Variant -> contrast with the baseline; no entry for the baseline itself."""
    comparisons: dict[str, Comparison | None] = field(default_factory=dict)
    """Variant -> its composite before any correction, for a verdict over several tables (`judge`)."""

    @property
    def n_runs(self) -> int:
        """Training seeds behind every cell."""
        return len(self.spec.seeds)


def build_table(
    spec: TableSpec, records: Mapping[str, Iterable[Record]], *, seed: int = 0, partial: bool = False
) -> Table:
    """Compute a table from the records of each variant (all its seeds together).

    Every cell draws from a generator named after it, so that adding a row or column changes no other.

    Raises `IncompleteTable` when a (variant, task, metric, seed) has no records and `partial` is False,
    ValueError when items or task versions of two variants differ or a direction contradicts the spec.
    """
    grids, holes = _grids(spec, records)
    if holes and not partial:
        raise IncompleteTable(
            f"{sum(map(len, holes.values()))} cells have no results: {_listed(spec, holes)}"
        )

    cells = {
        (row.variant, column.task, column.metric): _cell(spec, grids, row, column, seed)
        for row in spec.rows
        for column in spec.columns
    }
    to_reference = _composites(spec, grids, spec.reference, ("composite",), seed)
    to_baseline = _composites(spec, grids, spec.baseline, ("composite", "to baseline"), seed)
    return Table(
        spec,
        cells,
        judge(to_reference, level=spec.level),
        _contrasts(to_baseline, spec.level),
        to_reference,
    )


_Grids = dict[tuple[str, str, str], Grid]
_Holes = dict[tuple[str, tuple[int, ...]], list[str]]
"""A row and its missing seeds -> columns."""


def _listed(spec: TableSpec, holes: _Holes) -> str:
    """A row's columns together: a model that was not trained lacks all of them."""
    return "; ".join(
        f"{variant} x {'all columns' if len(names) == len(spec.columns) else ', '.join(names)} x seed "
        f"{', '.join(map(str, seeds))}"
        for (variant, seeds), names in holes.items()
    )


def _grids(spec: TableSpec, records: Mapping[str, Iterable[Record]]) -> tuple[_Grids, _Holes]:
    grids: _Grids = {}
    holes: _Holes = {}
    versions: dict[str, set[str]] = {}
    for row in spec.rows:
        by_column: dict[tuple[str, str], list[Record]] = {}
        for record in records.get(row.variant, ()):
            by_column.setdefault((record.task, record.metric), []).append(record)
        for column in spec.columns:
            found = [r for r in by_column.get((column.task, column.metric), []) if r.seed in spec.seeds]
            absent = sorted(set(spec.seeds) - {record.seed for record in found})
            if absent:
                holes.setdefault((row.variant, tuple(absent)), []).append(f"{column.task}/{column.metric}")
                continue
            if any(record.higher_is_better != column.higher_is_better for record in found):
                raise ValueError(f"the table turns {column.task}/{column.metric} the wrong way round")
            seen = {record.task_version for record in found}
            if versions.setdefault(column.task, seen) != seen:
                raise ValueError(f"variants were evaluated on different versions of task {column.task}")
            try:
                grid = arrange((r.seed, r.item_hash, r.cluster, r.value) for r in found)
            except ValueError as error:
                raise ValueError(f"{row.variant} x {column.task}/{column.metric}: {error}") from error
            grids[row.variant, column.task, column.metric] = grid
    return grids, holes


def _cell(spec: TableSpec, grids: _Grids, row: Row, column: Column, seed: int) -> Cell | None:
    own = grids.get((row.variant, column.task, column.metric))
    if own is None:
        return None
    how = {"level": spec.level, "resamples": spec.resamples}
    purpose = (row.variant, column.task, column.metric)
    value = interval(own, rng=generator(seed, "table", "value", *purpose), **how)  # type: ignore[arg-type]

    def difference(to: str, *name: str) -> Estimate | None:
        other = grids.get((to, column.task, column.metric))
        if row.variant == to or other is None:
            return None
        rng = generator(seed, "table", *name, *purpose)
        return compare([paired_difference(own, other)], rng=rng, **how).estimate  # type: ignore[arg-type]

    return Cell(
        value,
        difference(spec.reference, "difference"),
        difference(spec.baseline, "difference", "to baseline"),
    )


def _composites(
    spec: TableSpec, grids: _Grids, to: str, name: tuple[str, ...], seed: int
) -> dict[str, Comparison | None]:
    """Every other variant against one of them."""
    return {
        row.variant: _composite(spec, grids, row, to, generator(seed, "table", *name, row.variant))
        for row in spec.rows
        if row.variant != to
    }


def _composite(
    spec: TableSpec, grids: _Grids, row: Row, to: str, rng: np.random.Generator
) -> Comparison | None:
    differences, scales = [], []
    for column in filter(lambda column: column.in_composite, spec.columns):
        key = (column.task, column.metric)
        own, other, baseline = (grids.get((v, *key)) for v in (row.variant, to, spec.baseline))
        if own is None or other is None or baseline is None:
            return None
        spread = _between_items(baseline)
        if spread == 0:
            raise UserError(
                f"all items of {column.task}/{column.metric} score the same in the arm {spec.baseline}: the "
                "column cannot enter the composite; set in_composite to false or choose another metric"
            )
        differences.append(paired_difference(own, other))
        scales.append(spread if column.higher_is_better else -spread)
    return compare(differences, rng=rng, level=spec.level, resamples=spec.resamples, scales=scales)


def _between_items(grid: Grid) -> float:
    return float(np.std(grid.values.mean(axis=0), ddof=1)) if len(grid.items) > 1 else 0.0


def judge(comparisons: Mapping[str, Comparison | None], *, level: float = 0.95) -> dict[str, Verdict | None]:
    """Verdicts on composites that are looked at together: Holm-adjusted over all that are given."""
    return {
        variant: None if contrast is None else Verdict(**vars(contrast), outcome=_outcome(contrast, level))
        for variant, contrast in _contrasts(comparisons, level).items()
    }


def _contrasts(comparisons: Mapping[str, Comparison | None], level: float) -> dict[str, Contrast | None]:
    """Comparisons with p-values adjusted, as one family."""
    # Between items of one run each, a difference may be the seeds' as well as the arms'.
    tested = tested_together(
        {
            variant: comparison
            for variant, comparison in comparisons.items()
            if comparison is not None and comparison.estimate.n_runs > 1
        },
        level,
    )
    return {
        variant: None
        if comparison is None
        else Contrast(comparison.estimate, *tested.get(variant, (None, None)))
        for variant, comparison in comparisons.items()
    }


def _outcome(contrast: Contrast, level: float) -> Outcome:
    better, claimed = contrast.composite.value > 0, contrast.composite.n_runs >= SEEDS_TO_CLAIM
    if contrast.p_holm is None:
        return "unknown against"
    if contrast.p_holm > 1 - level:
        return "did not beat"
    if not claimed:
        return "is not claimed to beat" if better else "is not claimed to lose to"
    return "beat" if better else "lost to"


def verdict_sentence(spec: TableSpec, row: Row, verdict: Verdict | None) -> str:
    """What a variant's composite says, in one sentence."""
    reference = next(other.label for other in spec.rows if other.variant == spec.reference)
    if verdict is None:
        return f"{row.label}: no verdict against {reference}, columns are missing."
    seeds = verdict.composite.n_runs
    over = " over items only" if seeds == 1 and verdict.composite.known else ""
    parts = [
        f"{row.label} {verdict.outcome} {reference}: composite {verdict.composite.text(3, sign=True)}{over}"
    ]
    if verdict.p_holm is None:
        parts.append("Holm-adjusted p and the difference that would have been found are unknown")
    else:
        parts.append(f"Holm-adjusted p = {verdict.p_holm:.3f}")
    if verdict.outcome == "did not beat" and verdict.detectable is not None:
        parts.append(f"a difference of {verdict.detectable:.3f} would have been found with 80 % probability")
    if verdict.outcome in ("is not claimed to beat", "is not claimed to lose to"):
        parts.append(f"{seeds} seeds: nothing is claimed from fewer than {SEEDS_TO_CLAIM}")
    if seeds == 1:
        parts.append("one seed: what another seed would give is unknown")
    return "; ".join(parts) + "."


def estimates(table: Table) -> dict[str, Any]:
    """Everything in the table as JSON values, unrounded; unknown is null."""
    spec = table.spec
    rows = []
    for row in spec.rows:
        for column in spec.columns:
            cell = table.cells[row.variant, column.task, column.metric]
            rows.append(
                {
                    "variant": row.variant,
                    "task": column.task,
                    "metric": column.metric,
                    "higher_is_better": column.higher_is_better,
                    "in_composite": column.in_composite,
                    "chance": column.chance,
                    "value": cell.value.as_dict() if cell else None,
                    "difference": cell.difference.as_dict() if cell and cell.difference else None,
                    "to_baseline": cell.to_baseline.as_dict() if cell and cell.to_baseline else None,
                }
            )
    verdicts = {variant: verdict and asdict(verdict) for variant, verdict in table.verdicts.items()}
    against_baseline = {v: contrast and asdict(contrast) for v, contrast in table.against_baseline.items()}
    return {
        "title": spec.title,
        "reference": spec.reference,
        "baseline": spec.baseline,
        "seeds": list(spec.seeds),
        "level": spec.level,
        "resamples": spec.resamples,
        "cells": rows,
        "verdicts": verdicts,
        "against_baseline": against_baseline,
    }
