"""A training run from whatever an earlier attempt left of it to the finished model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from airlab.schema.machine import Machine
from airlab.schema.training import Training
from airlab.training.checkpoint import (
    delete_checkpoint,
    read_checkpoint,
    restore_generators,
    restore_weights,
)
from airlab.training.engine import Engine
from airlab.training.loop import Packed, n_updates, train
from airlab.training.recompute import recompute_layers
from airlab.training.tracking import HANDED, tracked
from airlab.training.unfinished import RESUME


def run_to_the_end(
    *,
    module: nn.Module,
    packed: Packed,
    training: Training,
    machine: Machine,
    output: Path,
    identity: dict[str, object],
    tracking: Path | None,
    checkpoint_every_s: float | None,
    label: str,
    export: Callable[[Engine], None],
    after_updates: Callable[[Engine, int], Any] = lambda _engine, _n_steps_done: None,
) -> dict[str, object]:
    """Train, or go on training, and export; returns facts for the record. Every process calls this.

    Args:
        module: gives the summed loss of what `packed` has, see `Engine.backward`; trained where its
            parameters ask for gradients.
        identity: what is trained on what; a checkpoint of anything else is refused.
        tracking: folder for what trackers keep of this run; None tracks nothing.
        export: writes the trained model to `output`, in every process.
        after_updates: see `train`.

    Raises:
        UserError: see `read_checkpoint`, `recompute_layers`, `Engine` and `train`.
    """
    counts = [(weight.numel(), weight.requires_grad) for weight in module.parameters()]
    if machine.recompute:
        recompute_layers(module, machine)
    resumed = read_checkpoint(output / RESUME, identity)
    if resumed is not None:
        restore_weights(module, resumed)
    engine = Engine(module, training, machine, resumed)
    if resumed is not None:
        restore_generators(resumed.generators, engine.device)
    first_step = 0 if resumed is None else resumed.n_steps_done
    train(
        engine=engine,
        packed=packed,
        training=training,
        sequences_per_micro_batch=machine.sequences_per_micro_batch,
        output=output,
        identity=identity,
        first_step=first_step,
        shown=lambda rows: tracked(machine, tracking, output, rows),
        checkpoint_every_s=checkpoint_every_s,
        after_updates=lambda n_steps_done: after_updates(engine, n_steps_done),
        label=label,
    )
    export(engine)
    if engine.is_main:
        (output / HANDED).unlink(missing_ok=True)
        delete_checkpoint(output / RESUME)
    engine.close()
    n_steps = n_updates(packed.n_sequences, training)
    return {
        "n_steps": n_steps,
        "n_tokens": packed.n_tokens(0, n_steps * training.batch_sequences),
        "n_parameters": sum(n for n, _ in counts),
        "n_trained_parameters": sum(n for n, is_trained in counts if is_trained),
        "resumed_at_step": first_step,
    }
