"""Targets trained on what selectors take of one corpus: arms, their cells, and the table over them.

What every experiment on AttentionInfluence's selection shares; hypotheses and the choice of arms are its own.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import pyarrow.parquet as pq
from pydantic import BeforeValidator, PositiveInt, SerializeAsAny, model_validator

from airlab.errors import UserError
from airlab.reporting.findings import Findings
from airlab.reporting.tables import Column, Row, Table, TableSpec, build_table, column_label
from airlab.schema.corpus import PoolCorpus
from airlab.schema.evaluation import METRICS, EvaluationSpec, HarnessSpec, PlannedTask, TaskSpec
from airlab.schema.mixture import MixtureSpec
from airlab.schema.training import TargetModel
from airlab.selection.selectors import make_selector
from airlab.selection.selectors.base import SelectorBase
from airlab.stages.build_mixture import BuildMixture
from airlab.stages.build_tasks import BuildTasks
from airlab.stages.continue_pretraining import Trained
from airlab.stages.detect_heads import DetectHeads
from airlab.stages.evaluate import Evaluate
from airlab.stages.inputs import corpus_stage, model_input, tokenized_stage
from airlab.stages.measure_losses import MeasureLosses
from airlab.stages.prepare_model import Model
from airlab.stages.pretrain import Pretrain
from airlab.stages.score_measured_units import score_stage
from airlab.stages.select_units import SelectUnits
from airlab.stages.train_tokenizer import TrainTokenizer
from airlab.store.stage import Stage
from airlab.store.store import Store
from experiments.base import Cell, Experiment, cell_records

BASELINE = "full_pool"
CONTROL = "random"


class Comparison(Experiment):
    """What the configuration of every such experiment holds."""

    TITLE: ClassVar[str]
    """Of the table; the scale is added."""
    selectors: dict[str, Annotated[SerializeAsAny[SelectorBase], BeforeValidator(make_selector)]]
    evaluation: EvaluationSpec
    evaluation_batch_size: PositiveInt

    @model_validator(mode="after")
    def _arms_are_comparable(self) -> Self:
        if CONTROL not in self.selectors:
            raise ValueError(f"selectors must have {CONTROL}, which every other is compared with")
        if BASELINE in self.selectors:
            raise ValueError(f"{BASELINE} is the arm without a selection and cannot be a selector's name")
        return self


def losses_stage(config: Experiment) -> MeasureLosses:
    """The expensive half: heads found and every document measured."""
    corpus, model = corpus_stage(config.corpus), model_input(config.model)
    heads = DetectHeads(model, corpus, config.probes, config.detection)
    return MeasureLosses(model, heads, config.masking, corpus, config.scoring)


def cells(config: Comparison) -> tuple[Cell, ...]:
    """Every arm and seed, baseline first: what runs, and what the table expects.

    Raises:
        UserError: parts that do not go together, found before anything runs.
    """
    losses = losses_stage(config)
    tokenizer = target_tokenizer(config.target, losses.corpus, lambda: losses.model)

    def pretrained(mixture: BuildMixture) -> Pretrain:
        return Pretrain(mixture, tokenizer, config.target, config.training, mixture.seed)

    return trained_cells(config, losses, tokenizer, config.target.context, pretrained)


def trained_cells(
    config: Comparison,
    losses: MeasureLosses,
    tokenizer: Stage,
    context: int,
    train: Callable[[BuildMixture], Trained],
) -> tuple[Cell, ...]:
    """The same, whatever is trained on the mixtures and however.

    Args:
        tokenizer: of the models that are trained.
        context: tokens of their training sequences.
        train: the stage that trains one on a mixture, with the mixture's seed.

    Raises:
        UserError: parts that do not go together, found before anything runs.
    """
    if isinstance(config.evaluation, TaskSpec) and not isinstance(config.corpus, PoolCorpus):
        raise UserError(
            "the local tasks are made of held-out text, which only the pool has; "
            "use corpus=pool or evaluation=paper."
        )
    corpus = losses.corpus
    tokenized = tokenized_stage(config.corpus, corpus, tokenizer)
    tasks = tasks_input(config.evaluation, corpus)
    found = []
    for variant, selector in {BASELINE: None, **config.selectors}.items():
        for seed in config.seeds:
            selection = None
            if selector is not None:
                scores = score_stage(losses, selector, seed, config.selectors, config.evaluation)
                selection = SelectUnits(scores, config.selecting)
            mixture = BuildMixture(
                tokenized,
                selection,
                # Nothing is mixed into the full pool: it is the same arm whatever the others are.
                MixtureSpec() if selection is None else config.mixture,
                budget_tokens=config.training.budget_tokens,
                context=context,
                seed=seed,
            )
            evaluation = Evaluate(train(mixture), tasks, seed, config.evaluation_batch_size)
            found.append(Cell(variant, seed, evaluation))
    return tuple(found)


def cell_stages(config: Comparison) -> dict[str, Stage]:
    """The stages behind the table, by the names that its lock gives them."""
    return {cell.name: cell.evaluation for cell in cells(config)}


def target_tokenizer(target: TargetModel, corpus: Stage, selector: Callable[[], Model]) -> Stage:
    """The target's tokenizer: the selector model's own, or one trained on the corpus.

    Args:
        selector: only asked where it is needed, since a model in the user's own folder is hashed each time.

    Raises:
        UserError: the selector's is asked for, and the selector is the user's own folder.
    """
    if target.vocabulary != "selector":
        return TrainTokenizer(corpus, target.vocabulary)
    model = selector()
    if not isinstance(model, Stage):
        raise UserError(
            "target.vocabulary=selector needs a model from a package, a hub or a GGUF file; "
            "give the target a vocabulary of its own, target.vocabulary=4096, say."
        )
    return model


def tasks_input(spec: EvaluationSpec, corpus: Stage) -> BuildTasks | HarnessSpec:
    """Tasks built of the corpus' held-out text, or the harness's own benchmarks as they are."""
    return spec if isinstance(spec, HarnessSpec) else BuildTasks(corpus, spec, seed=0)


def table_spec(config: Comparison) -> TableSpec:
    """Rows, columns and the composite, known before any result."""
    columns = []
    for task in config.evaluation.planned():
        metric = _shown(task)
        higher = METRICS.get(metric, True)
        columns.append(Column(task.name, metric, higher, column_label(task.name, metric)))
    return TableSpec(
        title=f"{config.TITLE}, scale {config.scale}",
        rows=(Row(BASELINE, "full pool"), *(Row(v, v.replace("_", " ")) for v in config.selectors)),
        columns=tuple(columns),
        seeds=config.seeds,
        reference=CONTROL,
        baseline=BASELINE,
        notes=(
            f"Every arm trains on {config.training.budget_tokens:,} tokens; selectors take "
            f"{config.selecting.share:.0%} of the {config.selecting.unit} "
            f"({'within each domain' if config.selecting.scope == 'domain' else 'of the whole pool'}) "
            f"and the mixture is {config.mixture.kind}.",
        ),
    )


def _shown(task: PlannedTask) -> str:
    """The metric a small target can move: likelihood before accuracy.

    Where the context holds all the choices, the margin over the wrong ones: a target that merely
    learned which words are frequent gives the right one more likelihood, but no margin.
    """
    preferred = ("margin",) if task.name == "key_retrieval" else ("bits_per_byte", "answer_nats")
    return next((metric for metric in preferred if metric in task.metrics), task.metrics[0])


def tabulate(config: Comparison, store: Store, *, partial: bool = False) -> Table:
    """The table from finished cells; looks each one up by fingerprint.

    Raises:
        IncompleteTable: a cell has no result and `partial` is off.
    """
    return build_table(table_spec(config), cell_records(cells(config), store), partial=partial)


def mixture_of(cell: Cell) -> BuildMixture:
    """The stream that a cell's target was trained on."""
    checkpoint = cell.evaluation.checkpoint
    assert isinstance(checkpoint, Trained) and isinstance(checkpoint.mixture, BuildMixture)
    return checkpoint.mixture


def selection_of(cell: Cell) -> Stage | None:
    """What is selected in it; None for the full pool."""
    return mixture_of(cell).selection


def find(config: Comparison, store: Store, *, partial: bool = False) -> Findings:
    """What is published by an experiment that has nothing but its table.

    Raises:
        IncompleteTable: a cell has no result and `partial` is off.
    """
    return Findings(tabulate(config, store, partial=partial))


def selections(config: Comparison, store: Store) -> Mapping[str, Mapping[str, Any]]:
    """What each selector took, at the first seed: documents and tokens by domain."""
    return selections_of(cells(config), store)


def selections_of(some: Iterable[Cell], store: Store) -> Mapping[str, Mapping[str, Any]]:
    """The same of cells that were made otherwise."""
    told: dict[str, Mapping[str, Any]] = {}
    for cell in some:
        selection = selection_of(cell)
        if selection is None or cell.variant in told:
            continue
        folder = store.find(selection)
        if folder is not None:
            told[cell.variant] = taken_by_domain(folder)
    return told


def taken_by_domain(folder: Path) -> dict[str, dict[str, int]]:
    """Documents and tokens of a finished selection, by domain."""
    table = pq.read_table(folder / "selection.parquet").group_by("domain")
    totals = table.aggregate([("n_tokens", "sum"), ("n_tokens", "count")]).sort_by("domain")
    return {
        row["domain"]: {"documents": row["n_tokens_count"], "tokens": row["n_tokens_sum"]}
        for row in totals.to_pylist()
    }
