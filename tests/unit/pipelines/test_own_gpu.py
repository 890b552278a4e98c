"""Workers of a host spread over its GPUs, whatever they are called and whenever they come and go."""

from pathlib import Path

import pytest
import torch

from airlab.pipelines import inputs
from airlab.pipelines.inputs import use_own_gpu
from airlab.schema.machine import Machine


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """A host of two GPUs; which of them were made current, in time."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return chosen


class Worker:
    """Stands for a process, of which a GPU is held as long as it lives."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch, self.held = monkeypatch, list[object]()

    def begins_a_task(self) -> None:
        self.patch.setattr(inputs, "_taken", self.held)
        use_own_gpu(Machine(device="cuda"))

    def ends(self) -> None:
        for _, lock in self.held:  # type: ignore[misc]
            lock.release()


def test_each_takes_a_gpu_and_keeps_it_for_all_its_tasks(
    taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Worker(monkeypatch), Worker(monkeypatch)
    for worker in (one, other, one, one, other):
        worker.begins_a_task()
    assert taken == [0, 1, 0, 0, 1]


def test_what_one_that_ended_had_is_free_and_more_workers_than_gpus_share_evenly(
    taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = [Worker(monkeypatch) for _ in range(6)]
    for worker in workers[:4]:
        worker.begins_a_task()
    workers[1].ends()
    for worker in workers[4:]:
        worker.begins_a_task()
    assert taken == [0, 1, 0, 1, 1, 0]


def test_a_gpu_is_known_by_what_the_system_calls_it(
    taken: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs of a cluster see others of a host's GPUs, each counted from 0."""
    held: list[Worker] = []
    for visible in ("2,3", "0,1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        held.append(Worker(monkeypatch))
        held[-1].begins_a_task()
    assert taken == [0, 0]


def test_a_machine_without_gpus_takes_none(taken: list[int]) -> None:
    use_own_gpu(Machine())
    assert taken == []
