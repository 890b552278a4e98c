"""What every stage of a plan takes: stages and configuration go in, `airlab.planning` does the arithmetic.

Nothing is read but small configuration files of models that are here already; no torch, no hub, no data.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from airlab.errors import UserError
from airlab.planning.assumptions import Assumptions
from airlab.planning.costs import Cost
from airlab.planning.memory import Offload, TrainingMemory, training_memory
from airlab.planning.memory import Stage as ZeroStage
from airlab.planning.rates import Measured
from airlab.planning.scaling import Recipe
from airlab.planning.work import forward_flops, probing_flops, scoring_flops, training_flops
from airlab.schema.machine import Machine
from airlab.schema.training import TargetModel
from airlab.stages.build_mixture import BuildMixture, TokenizeCorpus
from airlab.stages.build_pool import BuildPool
from airlab.stages.build_tasks import BuildTasks
from airlab.stages.continue_pretraining import ContinuePretraining, Trained
from airlab.stages.detect_heads import DetectHeads
from airlab.stages.evaluate import Evaluate
from airlab.stages.import_corpus import ImportCorpus
from airlab.stages.measure_losses import MeasureLosses
from airlab.stages.prepare_model import Model, PrepareModel
from airlab.stages.pretrain import Pretrain
from airlab.stages.score_measured_units import ScoreMeasuredUnits
from airlab.stages.score_units import ScoreUnits
from airlab.stages.select_units import SelectUnits
from airlab.stages.tokenize_shards import TokenizeShards
from airlab.stages.train_tokenizer import TrainTokenizer
from airlab.store.files import Files
from airlab.store.stage import Stage
from airlab.store.store import Store

_BYTES_PER_ROW = 120
"""Of a table with a row a document: two ids, a domain and five numbers."""

_EVALUATED_AT_ONCE = 2048
"""Tokens of an evaluation's prompt with its answer, at most; attention is the smaller part of the work."""

NOT_COUNTED = "not counted"


@dataclass(frozen=True)
class Planner:
    """Costs of stages on a machine, under assumptions."""

    assumptions: Assumptions
    measured: Measured
    machine: Machine
    store: Store

    @property
    def gpus(self) -> int:
        """Of all hosts together."""
        return self.hosts * self.machine.processes

    @property
    def hosts(self) -> int:
        """Those that are planned with."""
        return self.assumptions.hosts or self.machine.hosts

    def cost(self, stage: Stage) -> Cost:
        """Of one stage; what is not known how to count is said so, never taken for nothing."""
        if isinstance(stage, PrepareModel):
            shape, vocabulary = self.shape(stage)
            return Cost("model", disk_bytes=4.0 * shape.n_parameters(vocabulary))
        if isinstance(stage, BuildPool | ImportCorpus):
            tokens = self._corpus_tokens(stage)
            return Cost("corpus", tokens=tokens, disk_bytes=_times(tokens, self.assumptions.bytes_per_token))
        if isinstance(stage, DetectHeads):
            return self._heads(stage)
        if isinstance(stage, MeasureLosses):
            return self._scoring(stage)
        if isinstance(stage, ScoreUnits | ScoreMeasuredUnits | SelectUnits):
            return Cost("selection", disk_bytes=self._rows(stage))
        if isinstance(stage, TrainTokenizer | BuildTasks):
            return Cost("tokenizer and tasks")
        if isinstance(stage, TokenizeCorpus | TokenizeShards):
            tokens = self._corpus_tokens(stage)
            width = _token_bytes(self._vocabulary(stage.tokenizer))
            return Cost("token streams", tokens=tokens, disk_bytes=_times(tokens, width))
        if isinstance(stage, BuildMixture):
            width = _token_bytes(self._vocabulary(stage.tokenized.tokenizer))
            return Cost(
                "token streams", tokens=stage.budget_tokens, disk_bytes=float(width * stage.budget_tokens)
            )
        if isinstance(stage, Trained):
            return self._training(stage)
        if isinstance(stage, Evaluate):
            return self._evaluation(stage)
        return Cost(NOT_COUNTED, tokens=None, flops=None, disk_bytes=None)

    def training_memory(
        self,
        stage: Trained,
        zero: ZeroStage | None,
        *,
        recompute: bool | None = None,
        offload: Offload | None = None,
    ) -> TrainingMemory:
        """Of one GPU that trains a target, under a ZeRO stage; the rest as the machine says, or as given."""
        share = max(1, stage.training.batch_sequences // self.gpus)
        shape, vocabulary = self.shape(stage)
        return training_memory(
            shape,
            vocabulary,
            sequences=min(share, self.machine.sequences_per_micro_batch),
            stage=zero,
            processes=self.gpus,
            bfloat16=stage.training.precision == "bfloat16",
            recompute=self.machine.recompute if recompute is None else recompute,
            processes_per_host=self.machine.processes,
            offload=offload or (self.machine.offload if zero else "none"),
        )

    def recipe(self, stages: Sequence[Stage], seeds: int) -> Recipe:
        """The experiment that trains and evaluates targets, in GPU-hours.

        Raises:
            UserError: it trains none, or something in it cannot be counted.
        """
        evaluations = [s for s in stages if isinstance(s, Evaluate) and isinstance(s.checkpoint, Trained)]
        targets = [s.checkpoint for s in evaluations if isinstance(s.checkpoint, Trained)]
        scoring = [s for s in stages if isinstance(s, MeasureLosses)]
        if not targets:
            raise UserError(
                "gpu_hours asks what to train, and this experiment trains no targets; leave it out."
            )
        own = set(map(id, [*evaluations, *targets, *scoring]))
        scored = self._corpus_tokens(scoring[0].corpus) if scoring else 0.0
        if scored is None:
            raise UserError(
                "nothing says how many tokens the corpus has; give planning.corpus_tokens=NUMBER."
            )
        return Recipe(
            fixed=self._hours(s for s in stages if id(s) not in own),
            scoring=self._hours(scoring),
            training=self._hours(targets) / len(targets),
            evaluation=self._hours(evaluations) / len(targets),
            targets=len(targets),
            seeds=seeds,
            scored_tokens=scored,
            target_tokens=float(targets[0].training.budget_tokens),
            parameters=float(self.parameters(targets[0])),
        )

    def parameters(self, stage: Trained) -> int:
        """Of the target."""
        shape, vocabulary = self.shape(stage)
        return shape.n_parameters(vocabulary)

    def shape(self, model: Model) -> tuple[TargetModel, int]:
        """A model's shape and vocabulary: its configuration's, its file's, or what is assumed."""
        if isinstance(model, Pretrain):
            return model.model, self._vocabulary(model.tokenizer)
        if isinstance(model, ContinuePretraining):
            shape, vocabulary = self.shape(model.model)
            return shape.model_copy(update={"context": model.mixture.context}), vocabulary
        folder = model.path if isinstance(model, Files) else self.store.find(model)
        shape = (_read_shape(folder / "config.json") if folder else None) or self.assumptions.selector
        assert isinstance(shape.vocabulary, int)
        return shape, shape.vocabulary

    def assumes_shape(self, model: Model) -> bool:
        """Whether nothing here says what a model looks like."""
        return not isinstance(model, Pretrain) and self.shape(model)[0] is self.assumptions.selector

    def _hours(self, stages: Iterable[Stage]) -> float:
        return sum(self.cost(stage).gpu_hours or 0.0 for stage in stages)

    def _heads(self, stage: DetectHeads) -> Cost:
        shape, vocabulary = self.shape(stage.model)
        tokens = stage.probes.count * stage.probes.max_tokens
        flops = probing_flops(shape, stage.probes.max_tokens)
        exact = stage.detection.precision == "float32"
        return Cost(
            "finding heads",
            tokens=tokens,
            flops=tokens * flops,
            gpu_bytes=self._pass_bytes(shape, vocabulary, flops, bfloat16=not exact),
            rate=self.measured.scoring(flops, bfloat16=not exact),
        )

    def _scoring(self, stage: MeasureLosses) -> Cost:
        shape, vocabulary = self.shape(stage.model)
        first = int(self.assumptions.unmasked_share_of_layers * shape.layers)
        flops = scoring_flops(shape, vocabulary, stage.scoring.window_tokens, first)
        bfloat16 = stage.scoring.precision == "bfloat16"
        tokens = self._corpus_tokens(stage.corpus)
        return Cost(
            f"scoring, {billions(shape.n_parameters(vocabulary))} parameters",
            tokens=tokens,
            flops=_times(tokens, flops),
            gpu_bytes=self._pass_bytes(shape, vocabulary, flops, bfloat16=bfloat16),
            disk_bytes=self._rows(stage.corpus),
            rate=self.measured.scoring(flops, bfloat16=bfloat16),
        )

    def _pass_bytes(self, shape: TargetModel, vocabulary: int, flops: float, *, bfloat16: bool) -> float:
        """Weights, and what was measured for a pass' tokens, scaled by hidden size and precision."""
        subject = self.measured.nearest(flops)
        each = subject.bytes_per_token * shape.hidden_size / subject.hidden_size
        return (1 if bfloat16 else 2) * (
            2.0 * shape.n_parameters(vocabulary) + each * self.machine.tokens_per_batch
        )

    def _training(self, stage: Trained) -> Cost:
        shape, vocabulary = self.shape(stage)
        parameters = shape.n_parameters(vocabulary)
        tokens = stage.training.budget_tokens
        flops = training_flops(shape, vocabulary)
        bfloat16 = stage.training.precision == "bfloat16"
        assumed = self.measured.assumed(
            self.assumptions.training_mfu, self.assumptions.peak_tflops, bfloat16=bfloat16
        )
        is_alike = bfloat16 and self.gpus == 1 and not self.machine.recompute
        return Cost(
            f"training, {billions(parameters)} parameters",
            tokens=tokens,
            flops=tokens * flops,
            gpu_bytes=self.training_memory(stage, self.machine.deepspeed_stage).peak,
            # Float32 weights for good; weights and moments to resume from while it trains.
            disk_bytes=16.0 * parameters,
            rate=(self.measured.training(flops) if is_alike else None) or assumed,
        )

    def _evaluation(self, stage: Evaluate) -> Cost:
        if not isinstance(stage.checkpoint, Trained | PrepareModel):
            return Cost(NOT_COUNTED, tokens=None, flops=None, disk_bytes=None)
        shape, vocabulary = self.shape(stage.checkpoint)
        tokens = self.assumptions.evaluation_tokens
        return Cost(
            "evaluation",
            tokens=tokens,
            flops=tokens * forward_flops(shape, vocabulary, min(_EVALUATED_AT_ONCE, shape.context)),
            gpu_bytes=4.0 * shape.n_parameters(vocabulary),
            rate=self.measured.assumed(
                self.assumptions.evaluation_mfu, self.assumptions.peak_tflops, bfloat16=True
            ),
        )

    def _corpus_tokens(self, stage: Stage) -> float | None:
        """Tokens of the corpus behind a stage."""
        if self.assumptions.corpus_tokens is not None:
            return float(self.assumptions.corpus_tokens)
        corpus = _corpus_of(stage)
        if isinstance(corpus, BuildPool):
            return sum(corpus.spec.bytes_per_domain.values()) / self.assumptions.bytes_per_token
        return None

    def _rows(self, stage: Stage) -> float | None:
        """Bytes of a table with a row for every document."""
        tokens = self._corpus_tokens(stage)
        return None if tokens is None else tokens / self.assumptions.tokens_per_document * _BYTES_PER_ROW

    def _vocabulary(self, tokenizer: Model) -> int:
        if isinstance(tokenizer, TrainTokenizer):
            return tokenizer.vocabulary_size
        return self.shape(tokenizer)[1]


def billions(parameters: float) -> str:
    """Such as `6.98B`."""
    unit, name = (1e9, "B") if parameters >= 1e9 else (1e6, "M")
    return f"{parameters / unit:.3g}{name}"


def _corpus_of(stage: Stage) -> Stage | None:
    """The corpus that a stage's documents come from; a part of a corpus counts as all of it."""
    if isinstance(stage, BuildPool | ImportCorpus):
        return stage
    nearer = [stage.corpus] if hasattr(stage, "corpus") else stage.inputs()
    return next((found for item in nearer if (found := _corpus_of(item)) is not None), None)


def _times(tokens: float | None, each: float) -> float | None:
    return None if tokens is None else tokens * each


def _token_bytes(vocabulary: int) -> int:
    return 2 if vocabulary <= 1 << 16 else 4


def _read_shape(config: Path) -> TargetModel | None:
    """The shape that a model's configuration states; None if it is not built like Llama."""
    try:
        said = json.loads(config.read_text(encoding="utf-8"))
        return TargetModel(
            vocabulary=said["vocab_size"],
            hidden_size=said["hidden_size"],
            layers=said["num_hidden_layers"],
            heads=said["num_attention_heads"],
            kv_heads=said.get("num_key_value_heads") or said["num_attention_heads"],
            intermediate_size=said["intermediate_size"],
            context=said["max_position_embeddings"],
            tie_embeddings=said.get("tie_word_embeddings", True),
        )
    except (OSError, ValueError, KeyError, ValidationError):
        return None
