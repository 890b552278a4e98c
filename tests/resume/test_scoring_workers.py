"""Scoring in several processes of a host: the same bytes, whatever becomes of the processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.stages import shard_workers
from airlab.stages.shard_notes import ShardNote, read_notes
from airlab.stages.shard_workers import workers_for
from airlab.store.plan import Plan
from airlab.store.store import Store
from airlab.text.documents import Shard
from tests.resume.scoring_workers import ACTS, MeasureHashes, hashes, pids, shards
from tests.unit.cli.conftest import documents, write_jsonl

ROOT = Path(__file__).parents[2]
COUNT = 1100
FIRSTS = [256 * number for number in range(5)]
NOTHING = {"at": -1, "times": 0, "what": "kill"}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("given")
    write_jsonl(folder / "docs.jsonl", documents(COUNT))
    return folder


@pytest.fixture(scope="module")
def stage(given: Path) -> MeasureHashes:
    return hashes(given)


@pytest.fixture(scope="module")
def alone(stage: MeasureHashes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact as one process makes it."""
    folder = tmp_path_factory.mktemp("alone")
    tell(folder, **NOTHING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ACTS, str(folder))
        store = Store(folder / "store")
        Plan(store, [stage]).run(Machine())
    return store.folder(stage)


@pytest.fixture
def acts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What workers are told to do, and what they did."""
    monkeypatch.setenv(ACTS, str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    tell(tmp_path, **NOTHING)
    return tmp_path


def tell(acts: Path, **act: Any) -> None:
    (acts / "act.json").write_text(json.dumps(act))


def assert_as(alone: Path, store: Store, stage: MeasureHashes) -> None:
    found = store.folder(stage)
    assert sorted(path.name for path in found.iterdir()) == sorted(path.name for path in alone.iterdir())
    for name in ("losses.parquet", "skipped.parquet"):
        assert (found / name).read_bytes() == (alone / name).read_bytes()
    record, expected = store.record(stage), next(alone.glob("record.json"))
    assert record is not None and record.notes == json.loads(expected.read_text())["notes"]


def test_two_processes_leave_the_same_bytes_and_one_that_is_slow_is_told_of(
    stage: MeasureHashes,
    alone: Path,
    acts: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It waits until it was told of, while the other worker measures everything else."""
    tell(acts, at=512, times=1, what="wait")
    monkeypatch.setattr(shard_workers, "_LOOK_EVERY_S", 0.1)
    announce, store = shard_workers.announce, Store(acts / "store")
    seen: dict[int, ShardNote] = {}

    def told(line: str) -> None:
        announce(line)
        if "has been at documents 512 to 767 for" in line:
            seen.update({note.first: note for note in read_notes(store.part(stage))})
            assert not any(note.is_gone for note in seen.values())
            (acts / "go on").touch()

    monkeypatch.setattr(shard_workers, "announce", told)
    Plan(store, [stage]).run(Machine(processes=2))
    assert_as(alone, store, stage)
    assert sorted(shards(acts)) == FIRSTS and len(pids(acts)) == 2 and os.getpid() not in pids(acts)
    assert seen[512].state == "running" and seen[512].process in pids(acts) and seen[512].is_gone
    assert all(note.of_shards == 5 and note.units in (256, 76) for note in seen.values())
    assert "half of the others took" in capsys.readouterr().err


def test_workers_that_are_killed_cost_their_shard_alone(
    stage: MeasureHashes, alone: Path, acts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tell(acts, at=256, times=2, what="kill")
    store = Store(acts / "store")
    Plan(store, [stage]).run(Machine(processes=3))
    assert_as(alone, store, stage)
    assert Counter(shards(acts)) == {first: 3 if first == 256 else 1 for first in FIRSTS}
    told = capsys.readouterr().err
    assert told.count("was killed by SIGKILL at documents 256 to 511; another takes its place") == 2


def test_a_shard_that_kills_every_worker_ends_the_run_and_keeps_the_others(
    stage: MeasureHashes, alone: Path, acts: Path
) -> None:
    tell(acts, at=0, times=99, what="kill")
    store = Store(acts / "store")
    with pytest.raises(
        UserError, match=r"killed by SIGKILL at documents 0 to 255, as 2 before it.*lower machi"
    ):
        Plan(store, [stage]).run(Machine(processes=2))
    kept = {path.name for path in (store.part(stage) / "shards").glob("losses-*")}
    assert kept and not any("-000000000000-" in name for name in kept)
    before = shards(acts)
    tell(acts, **NOTHING)
    Plan(store, [stage]).run(Machine())
    assert_as(alone, store, stage)
    assert len(shards(acts)) == len(before) + 5 - len(kept), "what was saved was not measured again"


def test_running_out_of_memory_is_a_sentence_with_the_remedy_however_many_processes(
    stage: MeasureHashes, acts: Path
) -> None:
    tell(acts, at=512, times=99, what="memory")
    store = Store(acts / "store")
    remedy = (
        r"out of memory while documents 512 to 767 were scored: lower machine.tokens_per_batch \(it is 4096\)"
    )
    with pytest.raises(UserError, match=remedy):
        Plan(store, [stage]).run(Machine(processes=2))
    (failed,) = [note for note in read_notes(store.part(stage)) if note.state == "failed"]
    assert (failed.first, failed.units, failed.of_shards) == (512, 256, 5)
    assert failed.why.startswith("UserError: out of memory while")
    with pytest.raises(UserError, match=remedy):
        Plan(store, [stage]).run(Machine())


def test_a_defect_in_a_worker_ends_the_run_as_a_defect(
    stage: MeasureHashes, acts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tell(acts, at=0, times=99, what="fail")
    with pytest.raises(RuntimeError, match="worker 1 ended with exit code 1 at documents 0 to 255"):
        Plan(Store(acts / "store"), [stage]).run(Machine(processes=2))
    assert "ZeroDivisionError" in capfd.readouterr().err


@pytest.mark.parametrize("what", ["orphan", "interrupt"])
def test_workers_end_with_the_process_that_started_them(
    stage: MeasureHashes, given: Path, alone: Path, acts: Path, what: str
) -> None:
    """Killed in the middle, or by Ctrl-C: nobody goes on, and the same command does."""
    place = acts / "place"
    place.mkdir()
    for path in given.iterdir():
        (place / path.name).symlink_to(path)
    tell(acts, at=512, times=1, what=what)
    command = [sys.executable, str(ROOT / "tests/resume/scoring_workers.py"), str(place), "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, start_new_session=True, check=False
    )
    assert done.returncode == (-signal.SIGKILL if what == "orphan" else 130), done.stderr
    assert "Traceback" not in done.stderr
    for process in pids(acts):
        _wait_for_end(process)
    store = Store(place / "store")
    measured = shards(acts)
    kept = len(list((store.part(stage) / "shards").glob("losses-*")))
    Plan(store, [stage]).run(Machine())
    assert_as(alone, store, stage)
    assert len(shards(acts)) == len(measured) + 5 - kept


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_for_end(process: int) -> None:
    """For ever, if it does not end."""
    while _lives(process):
        time.sleep(0.05)


def test_every_process_has_a_gpu_of_its_own_or_the_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    several = [Shard(256 * number, 256, (number,)) for number in range(5)]
    assert workers_for(Machine(device="cuda", processes=2), several) == 2
    with pytest.raises(
        UserError, match=r"machine.processes=3 and this host shows 2 GPUs: set machine.processes=2"
    ):
        workers_for(Machine(device="cuda", processes=3), several)


def test_no_more_processes_than_shards_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert workers_for(Machine(processes=3), [Shard(0, 9, (0,))]) == 1
    assert "1 of 3 processes have something to score" in capsys.readouterr().err
    assert workers_for(Machine(processes=3), []) == 0
