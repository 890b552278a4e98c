"""Score every trace, or every step of traces, with one selector: the ScoreTables of AIR.

Selectors see what they see of documents. What they call influence is that of a trace, by a named aggregation
over its steps, or of a step (`airlab.selection.aggregation`). A selector that asks for what traces or steps
do not have is refused: there is no fallback.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airlab.errors import UserError
from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.schema.traces import Aggregation
from airlab.selection.aggregation import StepLosses, step_influence, sum_by_trace, trace_scores
from airlab.selection.needs import (
    ClassifierScores,
    CuratedOrder,
    HalfLosses,
    LossesOf,
    Need,
    ScoresOf,
    TargetTexts,
)
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Columns, Units
from airlab.stages.classify_documents import ClassifyDocuments
from airlab.stages.control_heads import LastHead
from airlab.stages.isolate_responses import IsolateResponses
from airlab.stages.measure_losses import MeasureLosses
from airlab.stages.measure_steps import MeasureSteps
from airlab.stages.measure_text import MeasureText
from airlab.stages.prepare_model import PrepareModel
from airlab.stages.score_measured_units import base_losses, in_order, named_part, table_in, under_control
from airlab.stages.score_units import write_scores
from airlab.store.stage import Stage, Workdir


@dataclass(frozen=True)
class ScoreTraces(Stage):
    """The ScoreTable `scores.parquet` of one selector, of which a unit is a trace. See `score_traces`."""

    VERSION: ClassVar[int] = 1
    losses: Stage
    """A LossTable of steps, under the selector's control mask if it has one."""
    traces: Stage
    selector: SelectorBase
    seed: int
    aggregation: Aggregation
    """From steps to the influence of a trace."""
    measurements: tuple[Stage, ...]
    """What the selector needs, in its order."""

    def slug(self) -> str:
        return str(getattr(self.selector, "kind", ""))

    def run(self, work: Workdir, machine: Machine) -> None:
        steps = pq.read_table(work.input(self.losses) / "losses.parquet")
        table, losses = sum_by_trace(steps), StepLosses.of_table(steps)
        traces = work.input(self.traces) / "traces.parquet"
        stages = dict(zip(self.selector.needs(), self.measurements, strict=True))

        def measured(need: Need) -> Columns:
            return _of_traces(work, need, stages[need], units.unit_id)

        def texts() -> list[str]:
            responses = pq.read_table(traces, columns=["unit_id", "response"])
            return in_order(responses, units.unit_id)["response"].tolist()

        units = _units(
            table, self.selector, lambda _: trace_scores(losses, self.aggregation)[1], texts, measured
        )
        write_scores(work, table, self.selector, self.selector.score(units, self.seed))


@dataclass(frozen=True)
class ScoreSteps(Stage):
    """The ScoreTable `scores.parquet` of one selector, of which a unit is a step. See `score_steps`."""

    VERSION: ClassVar[int] = 1
    losses: Stage
    """A LossTable of steps with `steps.parquet`, under the selector's control mask if it has one."""
    traces: Stage
    selector: SelectorBase
    seed: int
    least_loss: float
    """Nats a token that a step's base loss counts for at least in its influence."""
    measurements: tuple[Stage, ...]
    """What the selector needs, in its order."""

    def slug(self) -> str:
        return str(getattr(self.selector, "kind", ""))

    def run(self, work: Workdir, machine: Machine) -> None:
        folder = work.input(self.losses)
        table = pq.read_table(folder / "losses.parquet")
        losses = StepLosses.of_table(table)
        traces = work.input(self.traces) / "traces.parquet"
        stages = dict(zip(self.selector.needs(), self.measurements, strict=True))

        def measured(need: Need) -> Columns:
            return in_order(pq.read_table(table_in(work.input(stages[need]))), units.unit_id)

        def texts() -> list[str]:
            responses = pq.read_table(traces, columns=["unit_id", "response"]).to_pydict()
            by_id = dict(zip(responses["unit_id"], responses["response"], strict=True))
            steps = in_order(pq.read_table(folder / "steps.parquet"), units.unit_id)
            where = zip(*(steps[name].tolist() for name in ("parent_id", "start", "end")), strict=True)
            return [by_id[trace][start:end] for trace, start, end in where]

        units = _units(
            table, self.selector, lambda _: step_influence(losses, self.least_loss), texts, measured
        )
        write_scores(work, table, self.selector, self.selector.score(units, self.seed))


def score_traces(
    losses: MeasureSteps,
    selector: SelectorBase,
    seed: int,
    aggregation: Aggregation,
    named: Mapping[str, SelectorBase],
) -> Stage:
    """The stage that scores traces with any selector.

    Args:
        losses: the experiment's losses of steps.
        named: the experiment's arms, which selectors that build on others may name; see `score_stage`.

    Raises:
        UserError: a selector names one that does not exist, or one that builds on others itself; or it goes
            towards a task or a benchmark.
    """

    def measuring(need: Need) -> Stage:
        if isinstance(need, ScoresOf):
            return score_traces(losses, named_part(need.name, named), seed, aggregation, named)
        if isinstance(need, CuratedOrder):
            return losses.traces
        if isinstance(need, TargetTexts):
            raise UserError(
                f"the selector {getattr(selector, 'kind', '')} needs {need}, which is for documents: "
                "select traces towards a domain or a text."
            )
        if isinstance(need, LossesOf):
            return base_losses(losses, PrepareModel(need.model))
        responses = IsolateResponses(losses.traces)
        if isinstance(need, HalfLosses):
            return MeasureLosses(losses.model, LastHead(losses.model), Masking(), responses, losses.scoring)
        if isinstance(need, ClassifierScores):
            return ClassifyDocuments(PrepareModel(need.model), need.output, need.max_tokens, responses)
        return MeasureText(responses)

    measurements = tuple(measuring(need) for need in selector.needs())
    own = under_control(losses, selector.control())
    return ScoreTraces(own, losses.traces, selector, seed, aggregation, measurements)


def score_steps(losses: MeasureSteps, selector: SelectorBase, seed: int, least_loss: float) -> Stage:
    """The stage that scores steps with any selector that a step has all it needs for.

    Args:
        losses: the experiment's losses of steps.
        least_loss: nats a token that a step's base loss counts for at least in its influence.

    Raises:
        UserError: the selector needs what only whole traces or documents have.
    """

    def measuring(need: Need) -> Stage:
        if isinstance(need, ScoresOf):
            return score_steps(losses, named_part(need.name, {}), seed, least_loss)
        if isinstance(need, LossesOf):
            return base_losses(losses, PrepareModel(need.model))
        raise UserError(
            f"the selector {getattr(selector, 'kind', '')} needs {need}, which single steps do not have: "
            "score whole traces with it, or choose another for the steps."
        )

    measurements = tuple(measuring(need) for need in selector.needs())
    own = under_control(losses, selector.control())
    return ScoreSteps(own, losses.traces, selector, seed, least_loss, measurements)


def _units(
    table: pa.Table,
    selector: SelectorBase,
    formula: Callable[[Units], np.ndarray],
    texts: Callable[[], list[str]],
    measured: Callable[[Need], Columns],
) -> Units:
    names = ("unit_id", "domain", "n_tokens", "loss_sum_base", "loss_sum_ref", "entropy_sum_base")
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in names}
    return Units(**columns, texts=texts, measured=measured, control=selector.control(), formula=formula)


def _of_traces(work: Workdir, need: Need, stage: Stage, unit_ids: np.ndarray) -> Columns:
    """What was measured for a need, a row a trace, in the order of `unit_ids`."""
    folder = work.input(stage)
    if isinstance(need, CuratedOrder):
        return in_order(pq.read_table(folder / "traces.parquet", columns=["unit_id", "order"]), unit_ids)
    table = pq.read_table(table_in(folder))
    if isinstance(need, LossesOf):
        return in_order(sum_by_trace(table), unit_ids)
    if isinstance(need, HalfLosses):
        return _responses_alone(table, unit_ids)
    return in_order(table, unit_ids)


def _responses_alone(losses: pa.Table, unit_ids: np.ndarray) -> Columns:
    """Losses of responses as second halves; a response with nothing to predict has no tokens."""
    found = {
        unit: (n_tokens, loss)
        for unit, n_tokens, loss in zip(
            *(losses[name].to_pylist() for name in ("unit_id", "n_tokens", "loss_sum_base")), strict=True
        )
    }
    alone = [found.get(unit, (0, 0.0)) for unit in unit_ids.tolist()]
    nothing = np.zeros(len(alone), dtype=np.int64)
    return {
        "n_tokens_first": nothing,
        "loss_sum_first": nothing.astype(np.float64),
        "n_tokens_second": np.array([n for n, _ in alone], dtype=np.int64),
        "loss_sum_second": np.array([loss for _, loss in alone], dtype=np.float64),
    }
