"""What a worker may read: finished artifacts, and no other worker's unfinished ones."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store


@contextmanager
def reading(store: Store | None) -> Iterator[Workdir]:
    """A folder of the worker's own, through which stages find their inputs.

    A stage's real folder is opened by one process alone, which clears away what others are writing there.
    """

    def find(stage: Stage) -> Path:
        found = None if store is None else store.find(stage)
        if found is None:
            raise UserError(f"{stage.name} is not there yet; run it before the workers start.")
        return found

    with tempfile.TemporaryDirectory() as folder:
        yield Workdir(Path(folder), find)


def use_own_gpu(machine: Machine, rank: int) -> None:
    """Spread the workers of one host over its GPUs, in the order of their ranks."""
    if machine.device == "cuda":
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_device(rank % torch.cuda.device_count())
