"""Why does a chosen fifth lose? What arms hold of held-out text, next to what they lose on it.

Hypothesis: none stood before the numbers. This was looked at when `continued` had been read, to find out why
every arm loses to random on plain text, those that prefer opposite things as well. What came of it is the
hypothesis of `coverage`, which is tested there on seeds and selections of its own.

Analysis plan. For every arm and seed of `continued`, the share of held-out text's token 4-grams (repeats
counted) that occur anywhere in the stream that it was trained on; means over seeds; against them the table's
bits per byte, by domain; Pearson's correlation over arms, `random` and `full_pool` included and the
`base`, which has no stream, not. Nothing is tested.

No GPU is needed: the models' records are those of `continued`, whose archive `airlab restore` brings. On two
cores about ten seconds a stream, 33 of them.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np

from airlab.errors import UserError
from airlab.reporting.covered import ArmInDomain, covered_page
from airlab.reporting.findings import Findings
from airlab.reporting.tables import IncompleteTable, build_table
from airlab.stages.build_mixture import TokenizeCorpus
from airlab.stages.build_pool import BuildPool
from airlab.stages.measure_coverage import MeasureCoverage, read_coverage
from airlab.store.stage import Stage
from airlab.store.store import Store
from experiments.attention_influence.comparison import CONTROL, mixture_of, table_spec
from experiments.attention_influence.continued import Continuation, cells, losses_stage, selections
from experiments.base import Cell, cell_records

__all__ = ["Config", "find", "losses_stage", "selections", "targets"]

TOKENS = 4
_COLUMN = "bits_per_byte"


class Config(Continuation):
    """What `configs/experiment/attention_influence/coverage_audit.yaml` binds to."""

    TITLE: ClassVar[str] = "What arms hold of held-out text"
    name: Literal["attention_influence/coverage_audit"]


def coverage_stage(cell: Cell) -> MeasureCoverage:
    """What a cell's stream holds.

    Raises:
        UserError: the corpus has no held-out text.
    """
    mixture = mixture_of(cell)
    tokenized = mixture.tokenized
    if not isinstance(tokenized, TokenizeCorpus) or not isinstance(tokenized.corpus, BuildPool):
        raise UserError(
            "the audit reads held-out text, which only the pool has; use a scale whose corpus is the pool, "
            "such as scale=h100."
        )
    return MeasureCoverage(mixture, tokenized.corpus, tokenized.tokenizer, TOKENS)


def targets(config: Config) -> dict[str, Stage]:
    """Every cell's evaluation and coverage, by the names that the lock gives them."""
    some = cells(config)
    evaluated: dict[str, Stage] = {cell.name: cell.evaluation for cell in some}
    return evaluated | {f"coverage/{cell.name}": coverage_stage(cell) for cell in some}


def find(config: Config, store: Store, *, partial: bool = False) -> Findings:
    """The page, of arms whose cells are all there.

    Raises:
        IncompleteTable: something has no result and `partial` is off.
    """
    some, whole = cells(config), table_spec(config)
    spec = replace(whole, columns=tuple(c for c in whole.columns if c.metric == _COLUMN))
    covered = _covered(some, store)
    missing = [cell.name for cell in some if cell.name not in covered]
    if missing and not partial:
        raise IncompleteTable(f"nothing says what was held by {missing[0]} ({len(missing)} missing)")
    table = build_table(spec, cell_records(some, store), partial=partial)
    arms: dict[str, dict[str, ArmInDomain]] = {}
    for column in spec.columns:
        domain = column.task.removeprefix(f"{_COLUMN}_")
        for row in spec.rows:
            shares = [covered.get(cell.name) for cell in some if cell.variant == row.variant]
            cell = table.cells[row.variant, column.task, column.metric]
            if cell is not None and all(shares):
                held = float(np.mean([share[domain] for share in shares if share]))
                arms.setdefault(domain, {})[row.variant] = ArmInDomain(held, cell.value.value)
    compared = {domain: found for domain, found in arms.items() if CONTROL in found}
    if not compared:
        return Findings()
    notes = (
        f"Share of held-out text's token {TOKENS}-grams, repeats counted, that occur in the arm's stream of "
        f"{config.training.budget_tokens:,} tokens; mean over seeds {', '.join(map(str, config.seeds))}.",
    )
    labels = {row.variant: row.label for row in spec.rows}
    return Findings(
        None, (covered_page(f"{config.TITLE}, scale {config.scale}", compared, labels, CONTROL, notes),)
    )


def _covered(some: tuple[Cell, ...], store: Store) -> Mapping[str, Mapping[str, float]]:
    found = {cell.name: store.find(coverage_stage(cell)) for cell in some}
    return {name: read_coverage(folder) for name, folder in found.items() if folder is not None}
