"""Selectors that need more than the experiment's LossTable: what is measured for them, and their scores."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airlab.errors import UserError
from airlab.schema.evaluation import EvaluationSpec
from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.selection.needs import (
    BenchmarkTexts,
    ClassifierScores,
    ControlMask,
    CuratedOrder,
    HalfLosses,
    LossesOf,
    Need,
    ScoresOf,
    TargetTexts,
    TaskTexts,
)
from airlab.selection.selectors import known_selectors, make_selector
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Columns
from airlab.stages.classify_documents import ClassifyDocuments
from airlab.stages.control_heads import ControlHeads, LastHead
from airlab.stages.halve_documents import HalveDocuments, PairHalves
from airlab.stages.measure_losses import MeasureLosses
from airlab.stages.measure_steps import MeasureSteps
from airlab.stages.measure_text import MeasureText
from airlab.stages.prepare_model import Model, PrepareModel
from airlab.stages.sample_target import SampleBenchmark, read_target, task_stage
from airlab.stages.score_units import ScoreUnits, read_units, write_scores
from airlab.store.stage import Stage, Workdir

Measured = TypeVar("Measured", MeasureLosses, MeasureSteps)


@dataclass(frozen=True)
class ScoreMeasuredUnits(Stage):
    """The ScoreTable `scores.parquet` of a selector with needs of its own. Build it with `score_stage`."""

    VERSION: ClassVar[int] = 1
    losses: Stage
    """A LossTable, under the selector's control mask if it has one."""
    corpus: Stage
    selector: SelectorBase
    seed: int
    measurements: tuple[Stage, ...]
    """What the selector needs, in its order."""

    def slug(self) -> str:
        return str(getattr(self.selector, "kind", ""))

    def run(self, work: Workdir, machine: Machine) -> None:
        table, units = read_units(
            work.input(self.losses) / "losses.parquet", work.input(self.corpus) / "documents.parquet"
        )
        stages = dict(zip(self.selector.needs(), self.measurements, strict=True))

        def measured(need: Need) -> Columns:
            folder = work.input(stages[need])
            if isinstance(need, TargetTexts):
                return read_target(folder)
            return aligned(table_in(folder), units.unit_id)

        units = replace(units, measured=measured, control=self.selector.control())
        write_scores(work, table, self.selector, self.selector.score(units, self.seed))


def score_stage(
    losses: MeasureLosses,
    selector: SelectorBase,
    seed: int,
    named: Mapping[str, SelectorBase],
    evaluation: EvaluationSpec | None = None,
) -> Stage:
    """The stage that scores with any selector: `ScoreUnits` where that is enough.

    Args:
        losses: the experiment's LossTable.
        named: the experiment's arms, which selectors that build on others may name; a kind that is no
            arm's name stands for the selector of that kind with its default settings.
        evaluation: the experiment's, whose tasks selectors may name as their target.

    Raises:
        UserError: a selector names one that does not exist, or one that builds on others itself; or a task
            that the evaluation does not have.
    """
    own, needs = under_control(losses, selector.control()), selector.needs()
    if own is losses and not needs:
        return ScoreUnits(losses, losses.corpus, selector, seed)
    measurements = tuple(_measuring(need, losses, seed, named, evaluation) for need in needs)
    return ScoreMeasuredUnits(own, losses.corpus, selector, seed, measurements)


def under_control(losses: Measured, control: ControlMask | None) -> Measured:
    """The same measurement with another reference model."""
    if control is None:
        return losses
    heads, masking = losses.heads, losses.masking
    if control.random_draw is not None:
        heads = ControlHeads(heads, masking.share_of_heads, control.random_draw)
    if control.mode is not None:
        masking = Masking(share_of_heads=masking.share_of_heads, mode=control.mode)
    return replace(losses, heads=heads, masking=masking)


def _measuring(
    need: Need,
    losses: MeasureLosses,
    seed: int,
    named: Mapping[str, SelectorBase],
    evaluation: EvaluationSpec | None,
) -> Stage:
    if isinstance(need, ScoresOf):
        return score_stage(losses, named_part(need.name, named), seed, named, evaluation)
    if isinstance(need, TaskTexts):
        return task_stage(losses.corpus, need.task, evaluation)
    if isinstance(need, BenchmarkTexts):
        return SampleBenchmark(need.benchmark)
    if isinstance(need, LossesOf):
        return base_losses(losses, PrepareModel(need.model))
    if isinstance(need, ClassifierScores):
        return ClassifyDocuments(PrepareModel(need.model), need.output, need.max_tokens, losses.corpus)
    if isinstance(need, HalfLosses):
        halves = replace(base_losses(losses, losses.model), corpus=HalveDocuments(losses.corpus))
        return PairHalves(losses.corpus, halves)
    if isinstance(need, CuratedOrder):
        raise UserError(f"the selector needs {need}, which documents do not have: it is for traces.")
    return MeasureText(losses.corpus)


def base_losses(losses: Measured, model: Model) -> Measured:
    """A measurement of which only the model's own losses are wanted."""
    return replace(losses, model=model, heads=LastHead(model), masking=Masking())


def named_part(name: str, named: Mapping[str, SelectorBase]) -> SelectorBase:
    """The selector that another one builds on: the arm of that name, else the kind with its defaults.

    Raises:
        UserError: there is none, or it builds on others itself.
    """
    if name not in named and name not in known_selectors():
        known = sorted({*named, *known_selectors()})
        raise UserError(f"there is no selector {name!r} to build on; known are {', '.join(known)}.")
    part = named[name] if name in named else make_selector({"kind": name})
    if any(isinstance(need, ScoresOf) for need in part.needs()):
        raise UserError(
            f"the selector {name} builds on others itself, so no other can build on it; name its parts."
        )
    return part


def table_in(folder: Path) -> Path:
    """The one table of an artifact that holds measurements by unit."""
    return next(folder / name for name in _TABLES if (folder / name).exists())


_TABLES = ("scores.parquet", "losses.parquet", "statistics.parquet", "halves.parquet")


def aligned(path: Path, unit_ids: np.ndarray) -> Columns:
    """The columns of a table in the order of `unit_ids`.

    Raises:
        UserError: a unit has no row.
    """
    return in_order(pq.read_table(path), unit_ids)


def in_order(table: pa.Table, unit_ids: np.ndarray) -> Columns:
    """The same of a table in memory."""
    row_of = {unit: row for row, unit in enumerate(table["unit_id"].to_pylist())}
    absent = [unit for unit in unit_ids.tolist() if unit not in row_of]
    if absent:
        raise UserError(
            f"{len(absent)} unit(s) were not measured (the first is {absent[0]}); "
            "remove them from the input, or leave out the selector that needs the measurement."
        )
    rows = np.array([row_of[unit] for unit in unit_ids.tolist()], dtype=np.int64)
    return {name: table[name].to_numpy(zero_copy_only=False)[rows] for name in table.column_names}
