"""Fine-tuning a model on reasoning traces: from a job's description to a Hugging Face folder."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from airlab.errors import UserError
from airlab.models.device import use_device
from airlab.models.exactness import check_exactness
from airlab.models.load import CausalLM, load_causal_lm
from airlab.schema.base import Frozen
from airlab.schema.fine_tuning import Distillation, FineTuning
from airlab.schema.machine import Machine
from airlab.training import attention
from airlab.training.distillation import DistilledLosses
from airlab.training.engine import Engine, n_micro_batches
from airlab.training.export import target_weights, write_model
from airlab.training.run import run_to_the_end
from airlab.training.teacher import TeacherTable
from airlab.training.trace_data import PackedTraces, TraceData, vocabulary_digest
from airlab.training.tracking import check_trackers
from airlab.training.weighted_loss import cross_entropies, weighted_loss

if TYPE_CHECKING:
    from airlab.training.adapters import Adapters

_LENGTHS = (5, 11, 8)
_TOLERANCE = 1e-3
"""Of packed against separate states, relative, in float32; neighbours that are seen give far more."""


class TuningJob(Frozen):
    """One fine-tuning run, in a form that can be handed to other processes."""

    kind: Literal["fine_tune"] = "fine_tune"
    model: Path
    data: Path
    """What `BuildTraining` left."""
    teacher: Path | None = None
    """What `CacheTeacher` left of the same traces; for a recipe with distillation."""
    output: Path
    """Exists already; a checkpoint in it is continued."""
    recipe: FineTuning
    seed: int
    machine: Machine
    tracking: Path | None = None
    """Folder for what trackers keep of this run; null tracks nothing."""
    checkpoint_every_s: float | None = None
    """Seconds between checkpoints, 0 for one after every update; None chooses by what one costs."""

    def check(self) -> None:
        """Raise UserError for what cannot be trained, before any process is started."""
        check_trackers(self.machine)
        n_micro_batches(self.recipe.optimisation(1), self.machine)
        data = TraceData.open(self.data)
        if self.teacher is not None:
            TeacherTable.open(self.teacher, data)

    def run(self) -> dict[str, object]:
        """See `fine_tune`."""
        return fine_tune(self)


class WeightedSummedLoss(nn.Module):
    """A causal language model with its weighted loss, as one module that any engine can wrap."""

    def __init__(self, target: Any, distillation: Distillation | None = None) -> None:
        super().__init__()
        self.target = target
        self._losses = cross_entropies if distillation is None else DistilledLosses(distillation)

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        labels: torch.Tensor,
        weights: torch.Tensor | None = None,
        *taught: torch.Tensor,
    ) -> torch.Tensor:
        """Sum of weight times loss (nats, scalar); all [sequences, tokens, …], see `PackedTraces`.

        With `attention_mask=None`, no cache, and positions that restart, attention stays inside traces;
        `trainable` made sure that it does.
        """
        states = _states(self.target, input_ids, position_ids).flatten(0, 1)
        return weighted_loss(
            states,
            self.target.get_output_embeddings(),
            labels.flatten(),
            None if weights is None else weights.flatten(),
            losses=self._losses,
            beside=tuple(tensor.flatten(0, 1) for tensor in taught),
        ).loss


def trainable(folder: Path, context: int, device: str = "cpu") -> CausalLM:
    """A model in float32, still on the CPU, to be trained on packed sequences on `device`.

    It stays in evaluation mode: dropout, of which today's families have none, would make the weights depend
    on how a batch is cut.

    Raises:
        UserError: it cannot be loaded, is too short for the context, changes its logits after the output
            projection, or lets packed traces see each other.
    """
    lm = load_causal_lm(folder)
    if context > lm.geometry.context:
        raise UserError(
            f"The training data have sequences of {context} tokens and the model a context of "
            f"{lm.geometry.context}: build the data with a context of that or less."
        )
    check_exactness(lm, longest=context)
    lm.model.set_attn_implementation("sdpa" if device == "cuda" else attention.NAME)
    tokens = (torch.arange(sum(_LENGTHS)) * 7919 + 13) % lm.geometry.vocabulary
    positions = torch.cat([torch.arange(n) for n in _LENGTHS])
    with torch.no_grad():
        packed = _states(lm.model, tokens[None], positions[None])[0]
        alone = [_states(lm.model, t[None], torch.arange(len(t))[None])[0] for t in tokens.split(_LENGTHS)]
    difference = (packed - torch.cat(alone)).norm() / packed.norm()
    if not difference < _TOLERANCE:
        raise UserError(
            f"models of type {type(lm.model).__name__} compute other states for packed traces than for each "
            f"alone, by a share of {float(difference):.2g}; fine-tune another model family."
        )
    lm.model.requires_grad_(True)
    return lm


def fine_tune(job: TuningJob) -> dict[str, object]:
    """Train, or go on training, and write the checkpoint folder; returns facts for the record.

    In `job.output`: `config.json`, `model.safetensors`, the tokenizer's files and `curves.jsonl`; with LoRA
    also `adapter/`, while the model has the adapters merged into it. With several processes every one of them
    calls this.
    """
    job.check()
    device = use_device(job.machine)
    data = TraceData.open(job.data)
    teacher = None if job.teacher is None else TeacherTable.open(job.teacher, data)
    packed = PackedTraces(data, job.recipe.epochs, job.recipe.batch_sequences, job.seed, teacher)
    lm = trainable(job.model, data.context, device)
    if vocabulary_digest(lm.tokenizer) != data.vocabulary:
        raise UserError(
            "The training data were built with another vocabulary than the model's: build them with this "
            "model's tokenizer."
        )
    adapters = None
    if job.recipe.lora is not None:
        from airlab.training.adapters import Adapters

        adapters = Adapters(lm.model, job.recipe.lora, job.seed)
    return run_to_the_end(
        module=WeightedSummedLoss(lm.model, job.recipe.distillation),
        packed=packed,
        training=job.recipe.optimisation(packed.n_sequences * packed.context),
        machine=job.machine,
        output=job.output,
        identity={
            "data": data.sha256,
            "model": lm.digest,
            "teacher": None if teacher is None else teacher.facts,
            "fine-tuning recipe": job.recipe.model_dump(mode="json"),
            "seed": job.seed,
        },
        tracking=job.tracking,
        checkpoint_every_s=job.checkpoint_every_s,
        label="fine-tuning",
        export=lambda engine: _export(engine, lm, adapters, job.output),
    )


def _export(engine: Engine, lm: CausalLM, adapters: "Adapters | None", folder: Path) -> None:
    weights = target_weights(engine)
    if adapters is not None:
        with engine.gathered():
            if engine.is_main:
                adapters.write(weights, folder)
                weights = adapters.merged()
    if engine.is_main:
        write_model(weights, lm.model, folder)
        lm.tokenizer.save_pretrained(folder)


def _states(model: Any, input_ids: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
    """Last hidden states [sequences, tokens, hidden]."""
    own = model.config._attn_implementation == attention.NAME
    with attention.traces_at(position_ids) if own else nullcontext():
        states: torch.Tensor = model.get_decoder()(
            input_ids=input_ids, position_ids=position_ids, attention_mask=None, use_cache=False
        ).last_hidden_state
    return states
