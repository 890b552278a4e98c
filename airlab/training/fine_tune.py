"""Fine-tuning a model on reasoning traces: from a job's description to a Hugging Face folder."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from airlab.errors import UserError
from airlab.models.cpu import use_fast_exact_float32
from airlab.models.exactness import check_exactness
from airlab.models.load import CausalLM, load_causal_lm
from airlab.schema.base import Frozen
from airlab.schema.fine_tuning import FineTuning
from airlab.schema.machine import Machine
from airlab.training.checkpoint import RESUME, read_checkpoint, restore_generators, restore_weights
from airlab.training.engine import Engine, n_micro_batches
from airlab.training.export import export_weights
from airlab.training.loop import n_updates, train
from airlab.training.trace_data import PackedTraces, TraceData
from airlab.training.weighted_loss import weighted_loss

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
    checkpoint_every_s: float | None = None
    """Seconds between checkpoints, 0 for one after every update; None chooses by what one costs."""

    def check(self) -> None:
        """Raise UserError for what cannot be trained, before any process is started."""
        n_micro_batches(self.recipe.optimisation(1), self.machine)
        TraceData.open(self.data)

    def run(self) -> dict[str, object]:
        """See `fine_tune`."""
        return fine_tune(self)


class WeightedSummedLoss(nn.Module):
    """A causal language model with its weighted loss, as one module that any engine can wrap."""

    def __init__(self, target: Any) -> None:
        super().__init__()
        self.target = target

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        labels: torch.Tensor,
        weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Sum of weight times cross-entropy (nats, scalar); all [sequences, tokens], see `PackedTraces`.

        With `attention_mask=None`, no cache, and positions that restart, transformers masks attention between
        traces; `trainable` made sure that it does.
        """
        states = _states(self.target, input_ids, position_ids).flatten(0, 1)
        projection = self.target.get_output_embeddings()
        return weighted_loss(
            states, projection, labels.flatten(), None if weights is None else weights.flatten()
        ).loss


def trainable(folder: Path, context: int) -> CausalLM:
    """A model in float32 to be trained on packed sequences, under transformers' own attention.

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
    lm.model.set_attn_implementation("sdpa")
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

    In `job.output`: `config.json`, `model.safetensors`, the tokenizer's files and `curves.jsonl`. With
    several processes every one of them calls this.
    """
    job.check()
    if job.machine.device == "cpu":
        use_fast_exact_float32()
    data = TraceData.open(job.data)
    packed = PackedTraces(data, job.recipe.epochs, job.recipe.batch_sequences, job.seed)
    training = job.recipe.optimisation(packed.n_sequences * packed.context)
    lm = trainable(job.model, data.context)
    if int(data.tokens.max()) >= lm.geometry.vocabulary:
        raise UserError(
            f"The training data have tokens up to number {data.tokens.max()} and the model knows "
            f"{lm.geometry.vocabulary}: build the data with this model's tokenizer."
        )
    identity: dict[str, object] = {
        "data": data.sha256,
        "model": lm.digest,
        "fine-tuning recipe": job.recipe.model_dump(mode="json"),
        "seed": job.seed,
    }
    resumed = read_checkpoint(job.output / RESUME, identity)
    module = WeightedSummedLoss(lm.model)
    if resumed is not None:
        restore_weights(module, resumed)
    engine = Engine(module, training, job.machine, resumed)
    if resumed is not None:
        restore_generators(resumed.generators, engine.device)
    train(
        engine=engine,
        packed=packed,
        training=training,
        sequences_per_micro_batch=job.machine.sequences_per_micro_batch,
        output=job.output,
        identity=identity,
        first_step=0 if resumed is None else resumed.n_steps_done,
        checkpoint_every_s=job.checkpoint_every_s,
        after_updates=lambda _: None,
        label="fine-tuning",
    )
    facts: dict[str, object] = {
        "n_steps": n_updates(packed.n_sequences, training),
        "n_sequences": packed.n_sequences,
        "n_tokens": int(data.lengths.sum()) * job.recipe.epochs,
        "n_parameters": sum(weight.numel() for weight in engine.weights().values()),
        "resumed_at_step": 0 if resumed is None else resumed.n_steps_done,
    }
    export_weights(engine, lm.model, job.output)
    if engine.is_main:
        lm.tokenizer.save_pretrained(job.output)
        (job.output / RESUME).unlink(missing_ok=True)
    engine.close()
    return facts


def _states(model: Any, input_ids: torch.Tensor, position_ids: torch.Tensor) -> torch.Tensor:
    """Last hidden states [sequences, tokens, hidden]."""
    states: torch.Tensor = model.get_decoder()(
        input_ids=input_ids, position_ids=position_ids, attention_mask=None, use_cache=False
    ).last_hidden_state
    return states
