"""The training loop: whole batches of packed sequences in order, one update each, resumable exactly."""

import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from airlab.errors import UserError
from airlab.progress import progress
from airlab.schema.training import Training
from airlab.text.ahead import ahead
from airlab.training.checkpoint import generator_states, write_checkpoint
from airlab.training.engine import Engine
from airlab.training.schedule import learning_rate
from airlab.training.tracking import Row
from airlab.training.unfinished import CURVES, RESUME

CHECKPOINT_EVERY_S = 10.0
CHECKPOINT_SHARE = 0.05
"""Of the time, at most, that goes into checkpoints when nobody set their distance."""


class Packed(Protocol):
    """Training sequences, in the order of training."""

    context: int
    n_sequences: int

    def tensors(self, sequences: np.ndarray) -> tuple[torch.Tensor, ...]:
        """What the trained module takes of the sequences with these indices (int64 [n])."""

    def n_targets(self, first: int, last: int) -> float:
        """Predicted tokens, each counted by its weight, of sequences `first` up to, not including, `last`."""

    def n_tokens(self, first: int, last: int) -> int:
        """Tokens of these sequences, without what fills them up."""


def train(
    engine: Engine,
    packed: Packed,
    training: Training,
    sequences_per_micro_batch: int,
    output: Path,
    identity: dict[str, object],
    first_step: int,
    shown: Callable[[list[Row]], AbstractContextManager[Callable[[Row], None]]],
    checkpoint_every_s: float | None,
    after_updates: Callable[[int], None],
    label: str,
) -> None:
    """Run the updates from `first_step` to the last whole batch.

    Appends to `curves.jsonl` and keeps a checkpoint in `output`. `after_updates` is told, in every
    process, how many updates are done: before the first, and after each before its checkpoint is written, so
    that whatever it makes is there when a checkpoint says so. Raises UserError when the loss or the gradient
    is not finite.

    Args:
        shown: makes of the rows that stay of `curves.jsonl` what each further row is shown with.
    """
    batch = training.batch_sequences
    n_steps = n_updates(packed.n_sequences, training)
    world, rank = engine.accelerator.num_processes, engine.accelerator.process_index
    share = batch // world
    every_s = CHECKPOINT_EVERY_S if checkpoint_every_s is None else checkpoint_every_s
    last_checkpoint = time.monotonic()
    if first_step == 0:
        after_updates(0)
    n_left = packed.n_tokens(first_step * batch, n_steps * batch)

    def micro_batches(step: int) -> Iterator[tuple[torch.Tensor, ...]]:
        mine = np.arange(step * batch + rank * share, step * batch + (rank + 1) * share)
        for start in range(0, share, sequences_per_micro_batch):
            yield packed.tensors(mine[start : start + sequences_per_micro_batch])

    with ExitStack() as stack:
        prepared = stack.enter_context(closing(ahead(map(micro_batches, range(first_step, n_steps)), most=2)))
        curves = None
        advance: Callable[[float], None] = _silent
        if engine.is_main:
            kept = _cut_curves(output / CURVES, first_step)
            curves = stack.enter_context((output / CURVES).open("a"))
            show = stack.enter_context(shown(kept))
            advance = stack.enter_context(progress(label, "tokens", n_left))
        for step, cuts in zip(range(first_step, n_steps), prepared, strict=True):
            rate = learning_rate(step, n_steps, training)
            engine.set_learning_rate(rate)
            first = step * batch
            n_targets = packed.n_targets(first, first + batch)
            # Summed where the losses are: whoever looks at a number of a GPU waits for all its work.
            summed = torch.zeros((), dtype=torch.float64, device=engine.device)
            for cut in cuts:
                summed += engine.backward(cut, n_targets).double()
            is_due = engine.is_main and time.monotonic() - last_checkpoint >= every_s
            votes_at = torch.tensor(float(is_due), dtype=torch.float64, device=engine.device)
            sums = engine.summed(torch.stack([summed, votes_at]))
            norm = engine.clip()
            total, votes = sums.tolist()
            loss = total / n_targets
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise UserError(
                    f"Training stopped at step {step}: the loss is {loss} and the gradient's norm {norm}; "
                    "lower the learning rate."
                )
            engine.update()
            if curves is not None:
                row = {
                    "step": step,
                    "tokens": packed.n_tokens(0, first + batch),
                    "loss": loss,
                    "learning_rate": rate,
                    "grad_norm": norm,
                }
                curves.write(json.dumps(row) + "\n")
                curves.flush()
                show(row)
            after_updates(step + 1)
            if votes and step + 1 < n_steps:
                begun = time.monotonic()
                _checkpoint(engine, output, identity, step + 1)
                last_checkpoint = time.monotonic()
                if checkpoint_every_s is None:
                    every_s = max(CHECKPOINT_EVERY_S, (last_checkpoint - begun) / CHECKPOINT_SHARE)
            advance(packed.n_tokens(first, first + batch))


def n_updates(n_sequences: int, training: Training) -> int:
    """Whole batches in a mixture; what does not fill a batch is left, alike in every arm.

    Raises UserError when there is not one.
    """
    n_steps = n_sequences // training.batch_sequences
    if n_steps == 0:
        raise UserError(
            f"The mixture has {n_sequences} sequences, fewer than one batch of {training.batch_sequences}: "
            "raise the token budget."
        )
    return n_steps


def _checkpoint(engine: Engine, output: Path, identity: dict[str, object], n_steps_done: int) -> None:
    states = engine.states()
    if engine.is_main:
        generators = generator_states(engine.device)
        write_checkpoint(output / RESUME, n_steps_done, states, generators, identity)
    else:
        deque(states, maxlen=0)  # every process takes part in making a tensor whole


def _cut_curves(path: Path, first_step: int) -> list[Row]:
    """The curves so far, cut back to the checkpoint: later lines will be written again."""
    kept = path.read_text().splitlines(keepends=True)[:first_step] if path.exists() else []
    if len(kept) < first_step:
        raise RuntimeError(f"{path} has {len(kept)} lines, the checkpoint beside it {first_step} steps")
    path.write_text("".join(kept))
    return [json.loads(line) for line in kept]


def _silent(_: float) -> None:
    """Progress of the processes whose output nobody reads."""
