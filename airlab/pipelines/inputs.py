"""What a worker may read, and which GPU is its own."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import filelock

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store

_taken: list[tuple[int, filelock.BaseFileLock]] = []
"""This process's GPU, and what holds it until the process ends."""


@contextmanager
def reading(store: Store | None) -> Iterator[Workdir]:
    """A folder of the worker's own, through which stages find their inputs: finished artifacts alone.

    A stage's real folder is opened by one process alone, which clears away what others are writing there.
    """

    def find(stage: Stage) -> Path:
        found = None if store is None else store.find(stage)
        if found is None:
            raise UserError(f"{stage.name} is not there yet; run it before the workers start.")
        return found

    with tempfile.TemporaryDirectory() as folder:
        yield Workdir(Path(folder), find)


def use_own_gpu(machine: Machine) -> None:
    """Take the GPU of this host that the fewest workers have, and keep it while this process lives.

    Which tasks run at a time is the executor's affair, so a task's rank does not say which GPUs are free.
    """
    if machine.device != "cuda":
        return
    import torch

    if torch.cuda.is_available():
        if not _taken:
            _taken.append(_take(_visible(torch.cuda.device_count())))
        torch.cuda.set_device(_taken[0][0])


def _visible(gpus: int) -> list[str]:
    """What the system calls the GPUs that this process may use."""
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:gpus] or [str(number) for number in range(gpus)]


def _take(gpus: list[str]) -> tuple[int, filelock.BaseFileLock]:
    """A GPU's number and a lock that the system releases when this process ends, however it does."""
    folder = Path(tempfile.gettempdir(), f"airlab-gpus-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    for round_ in count():
        for number, gpu in enumerate(gpus):
            lock = filelock.FileLock(folder / f"{gpu.replace('/', '-')}.{round_}")
            try:
                lock.acquire(blocking=False)
            except filelock.Timeout:
                continue
            return number, lock
    raise AssertionError("counting has no end")
