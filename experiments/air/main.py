"""AIR: do step influence and sample influence choose what fine-tuning on reasoning traces should learn from?

Hypothesis (AIR, arXiv 2512.13279): traces, and the steps in them, that most depend on a model's retrieval
heads carry the reasoning. Fine-tuning on the samples of the highest influence does as well as on all of
them, and weighting steps by their influence does better than weighing all alike. The pool is generated
problems of mixed quality: clean solutions beside padded, redundant, wrong, shuffled and answer-only ones,
all with known answers.

Arms. Every arm but two trains on the same number of response tokens, a share of the pool, with the same
recipe; each differs from `random` in one thing:

- `base`: the model as it is. `full_data`: the whole pool as often, so several times the tokens.
- `random`, `length`, `entropy`, `loss_low`, `loss_high`, `ifd`: baselines of AIR and the usual ones.
- `attention_influence`: the method. `random_heads`: the same score from other heads of the same layers.
- `weighted_linear`, `weighted_softmax`, `weighted_rank`, `weighted_clipped`, `weighted_top_share`: the very
  traces of `random`, their steps weighted by influence.
- `weighted_by_random`, `weighted_by_length`, `weighted_by_entropy`, `weighted_by_loss`: the linear map of
  other scores of steps: does it have to be influence?
- `influence_weighted`: both uses together.
- `lora`: the traces of `random`, adapters only. `distilled_forward`, `distilled_reverse`: the traces of
  `random`, the model that was tuned on the whole pool as the teacher of every token.

For the method: `attention_influence` beats `random`, and a weighting by influence does, too. Against it:
`random_heads` or a weighting by random numbers, length or loss does as well; then it is not retrieval heads.

Known when this was written: where every sample is clean and of a template, any one-sided selection narrows
the data and random wins (0.19 nats a token for random after fine-tuning against 0.45 to 0.51, one seed).
Step influence tells padding from solutions with an AUC within traces of 0.75, but other heads of the same
layers do with 0.88; it ranks redundant steps above all others (0.16) and says nothing about errors (0.49).
Expected therefore: influence selects redundant and worked-out traces and does not beat random; `loss_high`
and `entropy` lose, since they select broken traces; weightings by influence change little, as padding is a
fifth of the traces and redundant steps gain; `loss_low` and `length` narrow the data and lose; a model of
135M parameters solves next to none of the problems at the laptop's size.

Analysis plan. As in AttentionInfluence's tables: differences paired over items and seeds against `random`,
one composite, the mean over the columns of answer likelihood (whole solutions and final answers; held-out
problems of three levels, harder ones, and problems of unseen generators) in units of the full-data arm's
spread between items; p-values Holm-corrected over all arms. Shares of solved problems stand in the table
with their intervals and are in no composite: at these sizes most are zero. Items of one generator are a
cluster. `base` is one model and its values repeat over seeds. Arms that need a hub or a curated order are in
no table here. No arm, seed or column is dropped afterwards.

The learning rate was chosen on `full_data` alone, with a seed that no table uses (docs/LOG.md).

At laptop scale 120 traces, of which an arm trains on thirty, once, and ten updates; two seeds, from which
nothing is claimed: it was three until the first cells had taken 85 seconds each, and that was decided before
any of their values had been looked at. So this scale shows that everything runs, and no more; the question
is for scale=h100. Time on two CPU cores: heads and three passes over the traces seven minutes, then a minute
of training and forty seconds of evaluation a cell, 33 cells; in all about an hour, and 18 GB of checkpoints.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

import pyarrow.parquet as pq
from pydantic import BeforeValidator, PositiveInt, SerializeAsAny, model_validator

from airlab.errors import UserError
from airlab.reporting.findings import Findings
from airlab.reporting.tables import Column, Row, TableSpec, build_table, column_label
from airlab.schema.base import Frozen
from airlab.schema.evaluation import METRICS, HarnessSpec, TraceEvaluation, WorkedTaskSpec
from airlab.schema.fine_tuning import Distillation, FineTuning, Lora
from airlab.schema.step_weights import StepWeights
from airlab.schema.traces import Aggregation, Rendering, Segmentation, TraceSource
from airlab.selection.selectors import make_selector
from airlab.selection.selectors.base import SelectorBase
from airlab.stages.build_traces import BuildTraces
from airlab.stages.build_training import BuildTraining
from airlab.stages.build_worked_tasks import BuildWorkedTasks
from airlab.stages.cache_teacher import CacheTeacher
from airlab.stages.detect_heads import DetectHeads
from airlab.stages.evaluate import Evaluate
from airlab.stages.fine_tune import FineTune
from airlab.stages.inputs import corpus_stage, model_input, traces_stage
from airlab.stages.measure_steps import MeasureSteps, TooLong
from airlab.stages.score_traces import score_steps, score_traces
from airlab.stages.select_units import SelectUnits
from airlab.stages.weigh_steps import WeighSteps
from airlab.store.stage import Stage
from airlab.store.store import Store
from experiments.base import Cell, Experiment, cell_records

__all__ = ["Config", "find", "selections", "targets"]

BASE = "base"
FULL_DATA = "full_data"
CONTROL = "random"
_OWN = (BASE, FULL_DATA)


class Arm(Frozen):
    """What is trained on, and how; everything that is not said is as in plain fine-tuning on all traces."""

    selector: str | None = None
    """One of the configuration's selectors; its share of the traces is trained on."""
    weights: StepWeights | None = None
    weighted_by: str = "attention_influence"
    """The selector whose scores of steps the weights are made of."""
    lora: Lora | None = None
    distillation: Distillation | None = None
    """The teacher is the first seed's `full_data`."""


class Comparison(Experiment):
    """What the configuration of every such experiment holds; nothing is pretrained.

    The corpus is where the probes' sentences come from; the model scores the traces, and is fine-tuned.
    """

    TITLE: ClassVar[str]
    """Of the table; the scale is added."""
    traces: TraceSource
    rendering: Rendering
    segmentation: Segmentation
    aggregation: Aggregation
    too_long: TooLong
    selectors: dict[str, Annotated[SerializeAsAny[SelectorBase], BeforeValidator(make_selector)]]
    arms: dict[str, Arm | None]
    """By name, besides `base`, `full_data` and one plain arm for every selector; null leaves one out."""
    fine_tuning: FineTuning
    fine_tuning_context: PositiveInt
    """Tokens of a training sequence, and of the longest trace."""
    teacher_top_k: PositiveInt
    evaluation: TraceEvaluation
    evaluation_batch_size: PositiveInt

    @model_validator(mode="after")
    def _arms_are_comparable(self) -> Self:
        if CONTROL not in self.selectors:
            raise ValueError(f"selectors must have {CONTROL}, which every other arm is compared with")
        names = [*_OWN, *self.selectors, *self.arms]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{twice[0]} is the name of two arms")
        for name, arm in self.own_arms().items():
            for selector in filter(None, (arm.selector, arm.weights and arm.weighted_by)):
                if selector not in self.selectors:
                    raise ValueError(f"the arm {name} names {selector}, which is none of the selectors")
        return self

    def own_arms(self) -> dict[str, Arm]:
        """Those of `arms` that are not left out."""
        return {name: arm for name, arm in self.arms.items() if arm is not None}

    def all_arms(self) -> dict[str, Arm]:
        """Every arm that is trained, `full_data` first."""
        plain = {name: Arm(selector=name) for name in self.selectors}
        return {FULL_DATA: Arm(), **plain, **self.own_arms()}


class Config(Comparison):
    """What `configs/experiment/air/main.yaml` binds to."""

    TITLE: ClassVar[str] = "AIR, main comparison"
    name: Literal["air/main"]


def runs(config: Comparison) -> tuple[Cell, ...]:
    """Every arm and seed, the untrained model first.

    Raises:
        UserError: parts that do not go together, found before anything runs.
    """
    model, traces = model_input(config.model), traces_stage(config.traces)
    heads = DetectHeads(model, corpus_stage(config.corpus), config.probes, config.detection)
    losses = MeasureSteps(
        model,
        heads,
        config.masking,
        traces,
        config.rendering,
        config.segmentation,
        config.scoring,
        config.too_long,
    )
    tasks = _tasks(config.evaluation, config.rendering, traces)

    def selection(name: str, seed: int) -> SelectUnits:
        scores = score_traces(losses, config.selectors[name], seed, config.aggregation, config.selectors)
        return SelectUnits(scores, config.selecting)

    def data(arm: Arm, seed: int) -> BuildTraining:
        chosen = None if arm.selector is None else selection(arm.selector, seed)
        weights = None
        if arm.weights is not None:
            by = config.selectors[arm.weighted_by]
            weights = WeighSteps(
                score_steps(losses, by, seed, config.aggregation.least_loss), chosen, arm.weights
            )
        return BuildTraining(
            model,
            traces,
            config.rendering,
            config.segmentation,
            weights,
            chosen,
            config.fine_tuning_context,
            "skip" if config.too_long == "window" else config.too_long,
        )

    def tuned(arm: Arm, seed: int) -> FineTune:
        recipe = config.fine_tuning.model_copy(update={"lora": arm.lora, "distillation": arm.distillation})
        teacher = None
        if arm.distillation is not None:  # one table of the whole pool serves every selection of it
            first = config.seeds[0]
            teacher = CacheTeacher(tuned(Arm(), first), data(Arm(), first), config.teacher_top_k)
        return FineTune(model, data(arm, seed), recipe, seed, teacher)

    def evaluated(checkpoint: Any, seed: int) -> Evaluate:
        return Evaluate(checkpoint, tasks, seed, config.evaluation_batch_size)

    return (
        Cell(BASE, config.seeds[0], evaluated(model, config.seeds[0])),
        *(
            Cell(name, seed, evaluated(tuned(arm, seed), seed))
            for name, arm in config.all_arms().items()
            for seed in config.seeds
        ),
    )


def _tasks(
    evaluation: WorkedTaskSpec | HarnessSpec, rendering: Rendering, traces: Stage
) -> BuildWorkedTasks | HarnessSpec:
    if isinstance(evaluation, HarnessSpec):
        return evaluation
    if evaluation.rendering != rendering:
        raise UserError(
            "problems would be shown otherwise than traces are: give evaluation.rendering the values of "
            "rendering."
        )
    if not isinstance(traces, BuildTraces):
        raise UserError(
            "the worked tasks are held-out problems of the generated traces, and these traces are not "
            "generated; use evaluation=air-paper or traces=generated."
        )
    return BuildWorkedTasks(traces, evaluation, seed=0)


def targets(config: Comparison) -> dict[str, Stage]:
    """The stages behind the table, by the names that its lock gives them."""
    return {run.name: run.evaluation for run in runs(config)}


def table_spec(config: Comparison) -> TableSpec:
    """Rows, columns and the composite, known before any result."""
    times = 1 / config.selecting.share
    unit = "traces" if config.selecting.unit == "documents" else "response tokens"
    scope = "domain by domain" if config.selecting.scope == "domain" else "all domains together"
    labels = {BASE: "base, untrained"}
    return TableSpec(
        title=f"{config.TITLE}, scale {config.scale}",
        rows=tuple(Row(arm, labels.get(arm, arm.replace("_", " "))) for arm in (BASE, *config.all_arms())),
        columns=tuple(
            Column(
                task.name,
                metric := task.metrics[0],
                METRICS.get(metric, True),
                column_label(task.name, metric),
                in_composite=metric == "answer_nats" or not isinstance(config.evaluation, WorkedTaskSpec),
            )
            for task in config.evaluation.planned()
        ),
        seeds=config.seeds,
        reference=CONTROL,
        baseline=FULL_DATA,
        baseline_at=f"at {times:.3g} times the tokens",
        notes=(
            f"Selectors take {config.selecting.share:.0%} of the pool's {unit}, {scope}; every arm goes "
            f"{config.fine_tuning.epochs} times through what it has, so full data sees {times:.3g} times the "
            "tokens. What is weighted, distilled or tuned by adapters are the traces of random, unless it "
            "says otherwise.",
        ),
    )


def find(config: Comparison, store: Store, *, partial: bool = False) -> Findings:
    """The table from finished runs.

    Raises:
        IncompleteTable: a run has no result and `partial` is off.
    """
    records = cell_records(runs(config), store)
    # Nothing was drawn for the base: it is the same model beside every seed.
    records[BASE] = [replace(record, seed=seed) for seed in config.seeds for record in records.get(BASE, [])]
    return Findings(build_table(table_spec(config), records, partial=partial))


def selections(config: Comparison, store: Store) -> Mapping[str, Mapping[str, Any]]:
    """What each arm trained on, at the first seed: traces and tokens by domain."""
    told: dict[str, Mapping[str, Any]] = {}
    for run in runs(config):
        checkpoint = run.evaluation.checkpoint
        if not isinstance(checkpoint, FineTune) or run.seed != config.seeds[0]:
            continue
        folder = store.find(checkpoint.data)
        if folder is not None:
            table = pq.read_table(folder / "index.parquet").group_by("domain")
            totals = table.aggregate([("n_predicted", "sum"), ("n_predicted", "count")]).sort_by("domain")
            told[run.variant] = {
                row["domain"]: {"traces": row["n_predicted_count"], "tokens": row["n_predicted_sum"]}
                for row in totals.to_pylist()
            }
    return told
