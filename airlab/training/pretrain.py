"""Pretraining a target model on a mixture: from a job's description to a Hugging Face folder."""

from pathlib import Path

from safetensors.torch import save_file
from transformers import LlamaForCausalLM

from airlab.errors import UserError
from airlab.models.cpu import use_fast_exact_float32
from airlab.schema.base import Frozen
from airlab.schema.machine import Machine
from airlab.schema.training import TargetModel, Training
from airlab.selection.mixture import Mixture
from airlab.training.checkpoint import RESUME, read_checkpoint, restore_generators, restore_weights
from airlab.training.engine import Engine, n_micro_batches
from airlab.training.loop import n_updates, train
from airlab.training.packing import PackedSequences
from airlab.training.target import SummedLoss, build_target
from airlab.training.tokenizer import DocumentEncoder, save_tokenizer


class Job(Frozen):
    """One training run, in a form that can be handed to other processes."""

    mixture: Path
    tokenizer: Path
    output: Path
    """Exists already; a checkpoint in it is continued."""
    model: TargetModel
    training: Training
    seed: int
    machine: Machine
    checkpoint_every_s: float | None = None
    """Seconds between checkpoints, 0 for one after every update; None chooses by what one costs."""


def check(job: Job) -> None:
    """Raise UserError for what cannot be trained, before any process is started."""
    mixture = Mixture.open(job.mixture)
    if mixture.context != job.model.context:
        raise UserError(
            f"The mixture has sequences of {mixture.context} tokens and the model a context of "
            f"{job.model.context}: build the mixture for this model."
        )
    n_micro_batches(job.training, job.machine)
    n_updates(mixture.n_tokens // mixture.context, job.training)


def pretrain(job: Job) -> dict[str, object]:
    """Train, or go on training, and write the checkpoint folder; returns facts for the record.

    In `job.output`: `config.json`, `model.safetensors`, the tokenizer's files and `curves.jsonl`.
    With several processes every one of them calls this.
    """
    check(job)
    if job.machine.device == "cpu":
        use_fast_exact_float32()
    mixture = Mixture.open(job.mixture)
    packed = PackedSequences(mixture)
    encoder = DocumentEncoder(job.tokenizer)
    identity: dict[str, object] = {
        "mixture": mixture.sha256,
        "model": job.model.model_dump(mode="json"),
        "training": job.training.model_dump(mode="json"),
        "seed": job.seed,
        "vocabulary": encoder.vocabulary_size,
    }
    resumed = read_checkpoint(job.output / RESUME, identity)
    target = build_target(job.model, encoder.vocabulary_size, encoder.separator, job.seed)
    module = SummedLoss(target)
    if resumed is not None:
        restore_weights(module, resumed)
    engine = Engine(module, job.training, job.machine, resumed)
    if resumed is not None:
        restore_generators(resumed.generators, engine.device)
    train(
        engine=engine,
        packed=packed,
        training=job.training,
        sequences_per_micro_batch=job.machine.sequences_per_micro_batch,
        output=job.output,
        identity=identity,
        first_step=0 if resumed is None else resumed.n_steps_done,
        checkpoint_every_s=job.checkpoint_every_s,
    )
    n_steps = n_updates(packed.n_sequences, job.training)
    facts: dict[str, object] = {
        "n_steps": n_steps,
        "n_tokens": n_steps * job.training.batch_sequences * packed.context,
        "n_parameters": sum(weight.numel() for weight in engine.weights().values()),
        "resumed_at_step": 0 if resumed is None else resumed.n_steps_done,
    }
    _export(engine, target, job)
    engine.close()
    return facts


def _export(engine: Engine, target: LlamaForCausalLM, job: Job) -> None:
    prefix = "target."
    weights = {
        name.removeprefix(prefix): weight.cpu().contiguous() for name, weight in engine.weights().items()
    }
    if not engine.is_main:
        return
    # Written piece by piece: the library's own save_pretrained loads DeepSpeed wherever it is installed.
    target.config.architectures = [type(target).__name__]
    target.config.save_pretrained(job.output)
    target.generation_config.save_pretrained(job.output)
    save_file(weights, job.output / "model.safetensors", metadata={"format": "pt"})
    save_tokenizer(job.tokenizer, job.output, job.model.context)
    (job.output / RESUME).unlink(missing_ok=True)
