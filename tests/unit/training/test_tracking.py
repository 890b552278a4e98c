"""Trackers show what the record holds, whole and once, also after kills; they are no part of any artifact."""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

from airlab.cli.bind import bind
from airlab.errors import UserError
from airlab.schema.base import Frozen
from airlab.schema.machine import Machine
from airlab.store.fingerprint import Refused, canonical
from airlab.store.stage import Workdir
from airlab.training import loop, tracking
from airlab.training.launch import launch
from airlab.training.pretrain import Job, pretrain
from airlab.training.tracking import HANDED, check_trackers
from tests.resume.test_training_kill import N_STEPS, a_job, stopped_after

HAS_TENSORBOARD = importlib.util.find_spec("tensorboard") is not None
needs_tensorboard = pytest.mark.skipif(not HAS_TENSORBOARD, reason="tensorboard is not installed")

Curve = dict[str, list[tuple[int, float]]]


class Remembers(GeneralTracker):
    """A tracker of accelerate's form that keeps what it is told across runs of this process."""

    name = "trackio"
    requires_logging_directory = False
    told: list[tuple[int, dict[str, float]]]
    runs: list[dict[str, str]]
    ended: int
    fails_at: int | None

    def __init__(self, run_name: str, **settings: str) -> None:
        super().__init__()
        assert run_name == "airlab"
        self.settings = settings

    @property
    def tracker(self) -> None:
        return None

    def start(self) -> None:
        type(self).runs.append(self.settings)

    def log(self, values: dict[str, float], step: int | None = None, **_: Any) -> None:
        assert step is not None
        if step == self.fails_at:
            raise ConnectionError("the service is down.")
        self.told.append((step, values))

    def finish(self) -> None:
        type(self).ended += 1


@pytest.fixture
def remembers(monkeypatch: pytest.MonkeyPatch) -> type[Remembers]:
    """It, in the place of trackio."""
    kind = type("Remembers", (Remembers,), {"told": [], "runs": [], "ended": 0, "fails_at": None})
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "trackio", kind)
    installed = tracking._is_installed
    monkeypatch.setattr(tracking, "_is_installed", lambda name: name == "trackio" or installed(name))
    return kind


def tracked_job(root: Path, name: str, *trackers: str, stops: bool = False) -> Job:
    """A run; one that stops has a checkpoint after every update."""
    job = a_job(root, name, 0.0 if stops else 1e9)
    machine = job.machine.model_copy(update={"trackers": trackers})
    return job.model_copy(update={"machine": machine, "tracking": root / "tracking" / name})


def record(job: Job) -> list[dict[str, float]]:
    return [json.loads(line) for line in (job.output / "curves.jsonl").read_text().splitlines()]


def result(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def shown(folder: Path) -> Curve:
    """What TensorBoard reads of a run's folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def curves(job: Job) -> Curve:
    """The record, as float32."""
    rows = record(job)
    return {
        key: [(int(row["step"]), float(np.float32(row[key]))) for row in rows]
        for key in rows[0]
        if key != "step"
    }


def test_an_own_tracker_is_told_every_row_once(tmp_path: Path, remembers: type[Remembers]) -> None:
    job = tracked_job(tmp_path, "run", "trackio")
    pretrain(job)
    rows = record(job)
    assert len(rows) == N_STEPS
    assert [{"step": step, **values} for step, values in remembers.told] == rows
    assert remembers.ended == 1 and len(remembers.runs) == 1


def test_what_is_trained_is_the_same_with_trackers(tmp_path: Path, remembers: type[Remembers]) -> None:
    names = ("trackio", *(["tensorboard"] if HAS_TENSORBOARD else []))
    plain, seen = tracked_job(tmp_path, "plain"), tracked_job(tmp_path, "seen", *names)
    pretrain(plain)
    pretrain(seen)
    assert result(plain.output) == result(seen.output), "the artifact's files differ"
    assert not plain.tracking.exists() and remembers.told


def test_a_tracker_goes_on_where_the_record_does_after_every_stop(
    tmp_path: Path, remembers: type[Remembers], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, job = tracked_job(tmp_path, "whole"), tracked_job(tmp_path, "run", "trackio", stops=True)
    pretrain(whole)
    for n_steps in (3, 29):
        stopped_after(job, n_steps, monkeypatch)
    pretrain(job)
    assert [{"step": step, **values} for step, values in remembers.told] == record(job)
    assert len(remembers.runs) == 3 and remembers.ended == 3
    assert len({settings["name"] for settings in remembers.runs}) == 1, "each attempt has a run of its own"
    assert result(job.output) == result(whole.output) and not (job.output / HANDED).exists()


def test_rows_between_the_checkpoint_and_the_stop_are_not_told_twice(
    tmp_path: Path, remembers: type[Remembers], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tracked_job(tmp_path, "run", "trackio")
    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        patch.setattr(loop, "learning_rate", _stop_at(7))
        pretrain(job)
    assert len(remembers.told) == 7 and not list(job.output.glob("resume*"))
    pretrain(job)
    assert [step for step, _ in remembers.told] == list(range(N_STEPS))


def _stop_at(wanted: int) -> Callable[..., float]:
    rate = loop.learning_rate

    def stop(step: int, *rest: Any) -> float:
        if step == wanted:
            raise KeyboardInterrupt
        return rate(step, *rest)

    return stop


def test_a_run_from_the_start_is_a_new_run_in_its_tracker(tmp_path: Path, remembers: type[Remembers]) -> None:
    for name in ("one", "two"):
        pretrain(tracked_job(tmp_path, name, "trackio"))
    assert len({settings["name"] for settings in remembers.runs}) == 2
    assert len(remembers.told) == 2 * N_STEPS


def test_a_tracker_that_fails_is_told_of_once_and_costs_nothing(
    tmp_path: Path, remembers: type[Remembers], capsys: pytest.CaptureFixture[str]
) -> None:
    remembers.fails_at = 5
    plain, job = tracked_job(tmp_path, "plain"), tracked_job(tmp_path, "run", "trackio")
    pretrain(plain)
    pretrain(job)
    assert [step for step, _ in remembers.told] == list(range(5))
    told = [line for line in capsys.readouterr().err.splitlines() if "tracker" in line]
    assert told == [
        "the tracker trackio failed (the service is down) and is left out from here; training goes on, and "
        "curves.jsonl holds everything."
    ]
    assert result(job.output) == result(plain.output)


def test_a_named_tracker_that_does_not_start_is_refused_before_training(
    tmp_path: Path, remembers: type[Remembers], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: Remembers) -> None:
        raise ValueError("no key was given.\nSee the manual.")

    monkeypatch.setattr(remembers, "start", start)
    job = tracked_job(tmp_path, "run", "trackio")
    with pytest.raises(UserError, match=r"^the tracker trackio does not start \(no key was given\); mend"):
        pretrain(job)
    assert record_length(job) == 0


def record_length(job: Job) -> int:
    return len((job.output / "curves.jsonl").read_text())


def test_a_named_tracker_that_is_not_installed_is_refused_before_any_process_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "_is_installed", lambda name: name == "tensorboard")
    job = tracked_job(tmp_path, "run", "tensorboard", "comet_ml")
    with pytest.raises(UserError, match=r"names comet_ml, which is not installed: pip install comet-ml, or"):
        launch(job)
    assert not list(job.output.iterdir())


def test_nothing_is_tracked_and_said_where_tensorboard_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "_is_installed", lambda _: False)
    job = a_job(tmp_path, "run", 1e9).model_copy(update={"tracking": tmp_path / "tracking"})
    assert job.machine.trackers == "auto"
    check_trackers(job.machine)
    pretrain(job)
    assert not (tmp_path / "tracking").exists()
    assert "tracker" not in capsys.readouterr().err


def test_a_tracker_has_a_folder_beside_the_artifacts(tmp_path: Path) -> None:
    from airlab.store.store import Store
    from tests.unit.store.test_inventory import WriteShards

    seen: list[Workdir] = []

    @dataclass(frozen=True)
    class LookAround(WriteShards):
        def run(self, work: Workdir, machine: Machine) -> None:
            seen.append(work)
            work.path("x").write_text("x")

    folder = Store(tmp_path / "store").make(LookAround(1), Machine())
    assert seen[0].tracking == tmp_path / "store" / "tracking" / "look_around" / folder.name


def test_where_it_is_tracked_is_no_part_of_an_identity() -> None:
    class Holder(Frozen):
        machine: Machine

    with pytest.raises(Refused, match="no part of an identity"):
        canonical(Holder(machine=Machine(trackers=("tensorboard",))))


@pytest.mark.parametrize("value", ["wandb", ["nothing"], [["wandb"]], None, 3])
def test_trackers_that_there_are_not_are_refused(value: object) -> None:
    class Command(Frozen):
        machine: Machine

    with pytest.raises(
        UserError, match=r"^machine.trackers.* is not possible: give auto, \[\] for none, or a"
    ):
        bind(Command, {"machine": {"trackers": value}})


@pytest.mark.parametrize("value", ["auto", [], ["tensorboard", "trackio", "wandb"]])
def test_trackers_are_chosen_by_the_machine(value: Any) -> None:
    assert bind(Machine, {"trackers": value}).trackers == (value if value == "auto" else tuple(value))


def test_every_name_that_can_be_chosen_is_one_of_accelerates() -> None:
    from typing import get_args

    from airlab.schema.machine import Tracker

    assert set(get_args(Tracker)) <= {str(name) for name in LOGGER_TYPE_TO_CLASS}


def test_looking_for_trackers_imports_none_of_them() -> None:
    code = (
        "import sys; from airlab.schema.machine import Machine\n"
        "from airlab.training.tracking import check_trackers; check_trackers(Machine())\n"
        "assert not {'torch', 'accelerate', 'tensorboard', 'wandb'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])


@needs_tensorboard
def test_tensorboard_shows_the_record_to_the_last_bit_of_a_float32(tmp_path: Path) -> None:
    job = tracked_job(tmp_path, "run", "tensorboard")
    pretrain(job)
    assert shown(job.tracking) == curves(job)


@needs_tensorboard
def test_tensorboard_is_what_is_used_by_itself(tmp_path: Path) -> None:
    job = a_job(tmp_path, "run", 1e9).model_copy(update={"tracking": tmp_path / "tracking" / "run"})
    pretrain(job)
    assert shown(tmp_path / "tracking" / "run") == curves(job)


@needs_tensorboard
def test_tensorboard_shows_a_run_that_was_killed_whole_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tracked_job(tmp_path, "run", "tensorboard", stops=True)
    stopped_after(job, 7, monkeypatch)
    # A kill may lose what was not flushed, or leave more than the checkpoint knows of.
    (events,) = job.tracking.glob("events*")
    events.write_bytes(events.read_bytes()[: events.stat().st_size // 2])
    stopped_after(job, 12, monkeypatch)
    pretrain(job)
    assert shown(job.tracking) == curves(job)
    assert len(list(job.tracking.glob("events*"))) == 1


@needs_tensorboard
def test_two_processes_are_tracked_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    job = tracked_job(tmp_path, "run", "tensorboard")
    machine = job.machine.model_copy(update={"processes": 2})
    job = job.model_copy(update={"machine": machine})
    launch(job)
    assert shown(job.tracking) == curves(job)
    (events,) = job.tracking.glob("*")
    assert re.match(r"events\.out\.tfevents\.", events.name)
