"""Masking check: does a model need its retrieval heads more than any others, and for what?

Hypothesis (AttentionInfluence, Table 6, "mirror effect"): with its retrieval heads masked, a model loses much
of what it can do where the answer stands in the context or has to be reasoned out, and far less with as many
other heads masked at random. What masking hurts is what the selection is said to improve; unlike that, it can
be tested without training. Arms, all on the same items:

- `intact`: the model as it is.
- `random`: as many heads as the retrieval arm masks, drawn from all layers outside it; the paper's control.
- `same_layer`: as many in each layer as the retrieval arm masks there, drawn from that layer's other heads.
  Ours: retrieval heads cluster in a few layers, and any heads of these may matter.
- `retrieval`: the top share of heads by retrieval score.

Against the hypothesis: the composite of `retrieval` is not below that of `random`; or it is, but not below
`same_layer`, for then the layers matter and not the heads; or text that needs no look-up (bits per byte)
loses as much, in its own spread between items, as key retrieval and copying, for then masking breaks the
model and says nothing of retrieval.

Analysis plan. Three comparisons, `retrieval` with each of the others, paired over items. Random arms are
drawn several times; the other two are deterministic and exist once. Draws play the part that training runs
play in `main`: each draw is paired with the one run of the other arm, which therefore stands in the grid once
for every draw. That is right because a run repeated adds nothing to the variation between draws, which is
the random arm's alone, and because items, which all draws share, count once; it would be wrong if the
repeated arm had draws of its own. A composite decides each comparison: the mean over tasks, each once, by
likelihood (margin where choices are offered), in units of the intact model's spread between items, positive
is better; three p-values, Holm-corrected. The tasks' own differences are Holm-corrected within a comparison,
over all tasks and metrics, accuracies included. Shares of accuracy lost stand beside the paper's table; its
tasks need a hub (`evaluation=paper`), ours are built from held-out text. Each draw's own composite against
the intact model is shown and not tested. No arm, draw or column is dropped.

Known when this was written: two arms, `intact` and `retrieval`, were run once at laptop scale to time them.
Key retrieval fell from 0.77 to 0.30 (acc_norm, chance 0.17), copying went from 0.18 to 1.03 nats/byte, the
four choice sets lost 0 to 0.13 of acc_norm, and bits per byte rose by 0.15 to 0.47. No random arm had been
run. Expected: key retrieval and copying near the intact model with random heads masked, and bits per byte
within 0.05; `same_layer` worse than `random` and well above `retrieval`. With few draws the error of a
random arm has few degrees of freedom, so single tasks may not be told apart at laptop scale;
effects on key retrieval and copying should be large enough for the composite.

Known since the smoke run (other heads, four items a task), which came after the above: uniform attention in
a single head, [18, 8], no retrieval head, adds 1.4 to 2.0 nats a token to plain text. Draws 0 and 2 of
`same_layer` hold it at laptop scale, so this arm may lose more than `retrieval` does, in everything and not
in retrieval; its draws show where. For it single draws are shown, and there are five of each kind instead of
three, which was decided before any random arm was run at this scale.

Time at laptop scale on two CPU cores: 67,000 tokens an evaluation took 217 s of processor time, 110 s or a
little more with both cores free; twelve evaluations 22 to 27 minutes. Pool, model and heads, which `main`
shares, 1.4. On one H100 a few minutes.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

from pydantic import PositiveInt, model_validator

from airlab.evaluation.records import Record, read_records
from airlab.reporting.findings import Findings
from airlab.reporting.masking import DRAWN, INTACT, RANDOM, RETRIEVAL, SAME_LAYER, Check, masking_page
from airlab.reporting.tables import Column, column_label
from airlab.schema.corpus import PoolCorpus
from airlab.schema.evaluation import (
    METRICS,
    Choices,
    EvaluationSpec,
    HarnessSpec,
    KeyRetrieval,
    PlannedTask,
    TaskSpec,
)
from airlab.stages.control_heads import ControlHeads, RandomHeads
from airlab.stages.detect_heads import DetectHeads
from airlab.stages.evaluate_masked import EvaluateMasked
from airlab.stages.inputs import corpus_stage, model_input
from airlab.stages.masked_model import masked_heads
from airlab.store.stage import Stage
from airlab.store.store import Store
from experiments.attention_influence.comparison import tasks_input
from experiments.base import Experiment

__all__ = ["Config", "find", "selections", "targets"]

_SHOWN = ("bits_per_byte", "acc_norm", "acc", "margin", "answer_nats")
"""Metrics of the local tasks on the page, as far as a task has them; see `_metrics`."""

_ACCURACIES = ("acc_norm", "acc")
_COUNTED = ("bits_per_byte", "margin", "answer_nats")
"""A task's first of these is in the composite."""


class Config(Experiment):
    """What `configs/experiment/attention_influence/masking_check.yaml` binds to; nothing is trained."""

    TITLE: ClassVar[str] = "AttentionInfluence, masking check"
    name: Literal["attention_influence/masking_check"]
    evaluation: EvaluationSpec
    evaluation_batch_size: PositiveInt
    draws: PositiveInt
    """Of each kind of random heads."""

    @model_validator(mode="after")
    def _tasks_can_be_built(self) -> Self:
        if isinstance(self.evaluation, TaskSpec) and not isinstance(self.corpus, PoolCorpus):
            raise ValueError(
                "evaluation needs held-out text, which only the pool has; use corpus=pool or evaluation=paper"
            )
        return self


def evaluations(config: Config) -> dict[tuple[str, int | None], EvaluateMasked]:
    """(Arm, draw) -> its evaluation, the intact model's first; arms without draws have None."""
    corpus, model = corpus_stage(config.corpus), model_input(config.model)
    ranking = DetectHeads(model, corpus, config.probes, config.detection)
    tasks = tasks_input(config.evaluation, corpus)

    def evaluation(heads: Stage | None) -> EvaluateMasked:
        masking = None if heads is None else config.masking
        return EvaluateMasked(model, heads, masking, tasks, config.evaluation_batch_size)

    share = config.masking.share_of_heads
    drawn = {RANDOM: RandomHeads, SAME_LAYER: ControlHeads}
    return {
        (INTACT, None): evaluation(None),
        (RETRIEVAL, None): evaluation(ranking),
        **{
            (arm, draw): evaluation(drawn[arm](ranking, share, draw))
            for draw in range(config.draws)
            for arm in DRAWN
        },
    }


def _name(arm: str, draw: int | None) -> str:
    return arm if draw is None else f"{arm}/draw-{draw}"


def targets(config: Config) -> dict[str, Stage]:
    """Every evaluation, by the name that the lock gives it."""
    return {_name(*key): stage for key, stage in evaluations(config).items()}


def check(config: Config) -> Check:
    """What the page shows, known before any result."""
    columns = tuple(
        Column(
            task.name,
            metric,
            METRICS.get(metric, True),
            column_label(task.name, metric),
            in_composite=metric == _counted(task),
            chance=_chance(config.evaluation, task.name) if metric in _ACCURACIES else None,
        )
        for task in config.evaluation.planned()
        for metric in _metrics(task)
    )
    harness = isinstance(config.evaluation, HarnessSpec)
    return Check(
        title=f"{config.TITLE}, scale {config.scale}",
        columns=columns,
        accuracies=frozenset((c.task, c.metric) for c in columns if harness or c.metric in _ACCURACIES),
        draws=tuple(range(config.draws)),
        notes=(
            f"Masked: the top {config.masking.share_of_heads:.0%} of heads by retrieval score, "
            f"{config.masking.mode}, or as many others; float32.",
        ),
    )


def _metrics(task: PlannedTask) -> list[str]:
    if not set(task.metrics) & set(_SHOWN):  # one of the harness's own
        return list(task.metrics)
    left_out = set()
    if "acc_norm" in task.metrics or task.name == "reasoning_worked":
        left_out.add("acc")  # several steps are never reproduced to the letter
    if "margin" in task.metrics:
        left_out.add("answer_nats")  # which also rises where every choice does
    return [metric for metric in _SHOWN if metric in task.metrics and metric not in left_out]


def _counted(task: PlannedTask) -> str:
    return next((metric for metric in _COUNTED if metric in task.metrics), task.metrics[0])


def _chance(spec: EvaluationSpec, task: str) -> float | None:
    if isinstance(spec, TaskSpec):
        for local in spec.tasks:
            if local.kind == task and isinstance(local, KeyRetrieval):
                return 1 / local.pairs
            if local.kind == task and isinstance(local, Choices):
                return 1 / local.choices
    return None


def find(config: Config, store: Store, *, partial: bool = False) -> Findings:
    """The page, from finished evaluations.

    Raises:
        IncompleteTable: an evaluation has no result and `partial` is off.
    """
    records: dict[str, list[Record]] = {}
    for (arm, draw), stage in evaluations(config).items():
        folder = store.find(stage)
        if folder is not None:
            found = read_records(folder / "records.parquet")
            records.setdefault(arm, []).extend(replace(record, seed=draw or 0) for record in found)
    return Findings(pages=(masking_page(check(config), records, partial=partial),))


def selections(config: Config, store: Store) -> Mapping[str, Mapping[str, Any]]:
    """Which heads each evaluation masked, as (layer, head) pairs counted from 0."""
    return masked_heads(targets(config), store)
