"""Pretraining a target model on a mixture: from a job's description to a Hugging Face folder."""

import os
import shutil
from pathlib import Path
from typing import Literal

from torch import nn
from transformers import LlamaForCausalLM

from airlab.errors import UserError
from airlab.models.device import use_device
from airlab.schema.base import Frozen
from airlab.schema.machine import Machine
from airlab.schema.training import TargetModel, Training
from airlab.selection.mixture import Mixture
from airlab.training.continued import continued_target
from airlab.training.engine import Engine, n_micro_batches
from airlab.training.export import target_weights, write_model
from airlab.training.loop import n_updates
from airlab.training.packing import PackedSequences
from airlab.training.run import run_to_the_end
from airlab.training.target import SummedLoss, build_target
from airlab.training.tokenizer import DocumentEncoder, save_tokenizer
from airlab.training.tracking import check_trackers


class Job(Frozen):
    """One training run, in a form that can be handed to other processes."""

    kind: Literal["pretrain"] = "pretrain"
    mixture: Path
    tokenizer: Path
    output: Path
    """Exists already; a checkpoint in it is continued."""
    model: TargetModel | Path
    """A shape, whose weights are drawn by the seed; or the folder of a model, which is trained further."""
    training: Training
    seed: int
    machine: Machine
    tracking: Path | None = None
    """Folder for what trackers keep of this run; null tracks nothing."""
    checkpoint_every_s: float | None = None
    """Seconds between checkpoints, 0 for one after every update; None chooses by what one costs."""
    halvings: int | None = None
    """None leaves the trained model in `output`. Otherwise a folder of models `exports/UPDATES` is left there
    instead, see `exported_updates`."""

    def check(self) -> None:
        """See `check`."""
        check(self)

    def run(self) -> dict[str, object]:
        """See `pretrain`."""
        return pretrain(self)


EXPORTS = "exports"


def exported_updates(n_steps: int, halvings: int) -> tuple[int, ...]:
    """After how many updates a model is kept: none, then about twice as many each time, up to all.

    Doubling, because losses fall and heads form on a logarithmic scale of tokens: even steps would hold
    nearly all models where nothing happens any more.

    Raises:
        UserError: there are too few updates for so many halvings.
    """
    if n_steps >> halvings == 0:
        raise UserError(
            f"{n_steps} updates cannot be halved {halvings} times: raise the token budget or lower halvings."
        )
    return (0, *(n_steps >> times for times in range(halvings, -1, -1)))


def check(job: Job) -> None:
    """Raise UserError for what cannot be trained, before any process is started."""
    mixture = Mixture.open(job.mixture)
    if isinstance(job.model, TargetModel) and mixture.context != job.model.context:
        raise UserError(
            f"The mixture has sequences of {mixture.context} tokens and the model a context of "
            f"{job.model.context}: build the mixture for this model."
        )
    check_trackers(job.machine)
    n_micro_batches(job.training, job.machine)
    n_steps = n_updates(mixture.n_tokens // mixture.context, job.training)
    if job.halvings is not None:
        exported_updates(n_steps, job.halvings)


def pretrain(job: Job) -> dict[str, object]:
    """Train, or go on training, and write the checkpoint folder; returns facts for the record.

    In `job.output`: `config.json`, `model.safetensors`, the tokenizer's files and `curves.jsonl`; with
    `job.halvings`, instead of the model's files, a folder of them for each of several moments.
    With several processes every one of them calls this.
    """
    check(job)
    use_device(job.machine)
    mixture = Mixture.open(job.mixture)
    encoder = DocumentEncoder(job.tokenizer)
    target, model = _target(job, encoder, mixture.context)
    identity: dict[str, object] = {
        "mixture": mixture.sha256,
        "model": model,
        "training": job.training.model_dump(mode="json"),
        "seed": job.seed,
        "vocabulary": encoder.vocabulary_size,
    }
    module, packed = with_loss(target, mixture, job)
    n_steps = n_updates(packed.n_sequences, job.training)
    kept = () if job.halvings is None else exported_updates(n_steps, job.halvings)

    def keep(engine: Engine, n_steps_done: int) -> None:
        if n_steps_done in kept:
            _export_whole(engine, target, job, job.output / EXPORTS / f"{n_steps_done:09d}")

    def export(engine: Engine) -> None:
        if job.halvings is None:
            _export(engine, target, job, job.output)

    return run_to_the_end(
        module=module,
        packed=packed,
        training=job.training,
        machine=job.machine,
        output=job.output,
        identity=identity,
        tracking=job.tracking,
        checkpoint_every_s=job.checkpoint_every_s,
        label="pretraining",
        export=export,
        after_updates=keep,
    )


def with_loss(target: LlamaForCausalLM, mixture: Mixture, job: Job) -> tuple[nn.Module, PackedSequences]:
    """What is trained, and its sequences as it takes them."""
    if (
        job.machine.device == "cpu"
        or job.training.precision == "float32"
        or job.machine.deepspeed_stage == 3  # has no whole weights to hand to a compiled layer
    ):
        return SummedLoss(target), PackedSequences(mixture)
    from airlab.training.gpu_target import GpuLoss, TiledSequences

    return GpuLoss(target), TiledSequences(mixture, target.model.layers[0].self_attn.head_dim)


def _target(job: Job, encoder: DocumentEncoder, context: int) -> tuple[LlamaForCausalLM, object]:
    """What is trained, and what a checkpoint of it says that it was at the start."""
    if isinstance(job.model, TargetModel):
        target = build_target(job.model, encoder.vocabulary_size, encoder.separator, job.seed)
        return target, job.model.model_dump(mode="json")
    return continued_target(job.model, context)


def _export_whole(engine: Engine, target: LlamaForCausalLM, job: Job, folder: Path) -> None:
    """Make `folder` appear whole; one of an attempt that was killed later on is replaced."""
    partial = folder.with_suffix(".partial")
    if engine.is_main:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    _export(engine, target, job, partial)
    if engine.is_main:
        for path in partial.iterdir():
            with path.open("rb") as written:
                os.fsync(written.fileno())
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)


def _export(engine: Engine, target: LlamaForCausalLM, job: Job, folder: Path) -> None:
    weights = target_weights(engine)
    if engine.is_main:
        write_model(weights, target, folder)
        save_tokenizer(job.tokenizer, folder, target.config.max_position_embeddings)
