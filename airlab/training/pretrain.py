"""Pretraining a target model on a mixture: from a job's description to a Hugging Face folder."""

import os
import shutil
from pathlib import Path
from typing import Literal

from transformers import LlamaForCausalLM

from airlab.errors import UserError
from airlab.models.cpu import use_fast_exact_float32
from airlab.schema.base import Frozen
from airlab.schema.machine import Machine
from airlab.schema.training import TargetModel, Training
from airlab.selection.mixture import Mixture
from airlab.training.checkpoint import RESUME, read_checkpoint, restore_generators, restore_weights
from airlab.training.engine import Engine, n_micro_batches
from airlab.training.export import export_weights
from airlab.training.loop import n_updates, train
from airlab.training.packing import PackedSequences
from airlab.training.target import SummedLoss, build_target
from airlab.training.tokenizer import DocumentEncoder, save_tokenizer


class Job(Frozen):
    """One training run, in a form that can be handed to other processes."""

    kind: Literal["pretrain"] = "pretrain"
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
    if mixture.context != job.model.context:
        raise UserError(
            f"The mixture has sequences of {mixture.context} tokens and the model a context of "
            f"{job.model.context}: build the mixture for this model."
        )
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
    n_steps = n_updates(packed.n_sequences, job.training)
    kept = () if job.halvings is None else exported_updates(n_steps, job.halvings)

    def keep(n_steps_done: int) -> None:
        if n_steps_done in kept:
            _export_whole(engine, target, job, job.output / EXPORTS / f"{n_steps_done:09d}")

    train(
        engine=engine,
        packed=packed,
        training=job.training,
        sequences_per_micro_batch=job.machine.sequences_per_micro_batch,
        output=job.output,
        identity=identity,
        first_step=0 if resumed is None else resumed.n_steps_done,
        checkpoint_every_s=job.checkpoint_every_s,
        after_updates=keep,
        label="pretraining",
    )
    facts: dict[str, object] = {
        "n_steps": n_steps,
        "n_tokens": n_steps * job.training.batch_sequences * packed.context,
        "n_parameters": sum(weight.numel() for weight in engine.weights().values()),
        "resumed_at_step": 0 if resumed is None else resumed.n_steps_done,
    }
    if job.halvings is None:
        _export(engine, target, job, job.output)
    if engine.is_main:
        (job.output / RESUME).unlink(missing_ok=True)
    engine.close()
    return facts


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
    export_weights(engine, target, folder)
    if engine.is_main:
        save_tokenizer(job.tokenizer, folder, job.model.context)
