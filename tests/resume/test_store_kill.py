"""Killed at any step, the same command gives the same bytes; two processes never do the work twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).with_name("store_worker.py")
ROOT = Path(__file__).parents[2]


class Place:
    """A store with a log of what was done in it."""

    def __init__(self, folder: Path) -> None:
        self.store, self.log_path = folder / "store", folder / "log"

    def start(self, moment: str = "") -> subprocess.Popen[str]:
        command = [sys.executable, str(WORKER), str(self.store), str(self.log_path), moment]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=environment, **pipes)

    def run(self, moment: str = "") -> int:
        process = self.start(moment)
        _, errors = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGKILL), errors
        return process.returncode

    def log(self) -> list[str]:
        return self.log_path.read_text().splitlines() if self.log_path.exists() else []

    def wait_for(self, line: str) -> None:
        deadline = time.monotonic() + 30
        while line not in self.log():
            assert time.monotonic() < deadline, f"{line!r} never came"
            time.sleep(0.02)

    def artifacts(self) -> list[Path]:
        return [
            path.parent
            for path in self.store.glob("count_shards/*/record.json")
            if path.parent.suffix != ".part"
        ]

    def content(self) -> dict[str, bytes]:
        (folder,) = self.artifacts()
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "record.json"]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    def record(self) -> dict[str, Any]:
        (folder,) = self.artifacts()
        record: dict[str, Any] = json.loads((folder / "record.json").read_text())
        return record


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("undisturbed"))
    assert place.run() == 0
    return place


MOMENTS = {
    "before a shard": 0,
    "between shards": 2,
    "inside a shard": 2,
    "before the record": 4,
    "inside the record": 4,
    "before the rename": 4,
    "after the rename": 4,
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_run_again_gives_the_same_bytes(tmp_path: Path, undisturbed: Place, moment: str) -> None:
    place = Place(tmp_path)
    assert place.run(moment) == -signal.SIGKILL
    assert len(place.log()) == 1 + MOMENTS[moment]
    assert len(place.artifacts()) == (1 if moment == "after the rename" else 0)
    assert place.run() == 0
    assert place.content() == undisturbed.content()
    same = ("fingerprint", "identity", "inputs", "notes", "manifest")
    assert {key: place.record()[key] for key in same} == {key: undisturbed.record()[key] for key in same}
    shards = [line for line in place.log() if line.startswith("shard")]
    assert shards == [f"shard {i}" for i in range(4)], "a finished shard was made twice"
    assert not list(place.store.rglob("*.part"))
    assert not list(place.store.rglob(".writing-*"))


def test_killed_twice_gives_the_same_bytes(tmp_path: Path, undisturbed: Place) -> None:
    place = Place(tmp_path)
    for moment in ("between shards", "inside a shard", "before the rename"):
        assert place.run(moment) == -signal.SIGKILL
    assert place.run() == 0
    assert place.content() == undisturbed.content()
    assert place.record()["notes"] == undisturbed.record()["notes"]


def test_ctrl_c_leaves_what_was_finished(tmp_path: Path, undisturbed: Place) -> None:
    place = Place(tmp_path)
    process = place.start("wait inside a shard")
    place.wait_for("waiting")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "the same command continues it" in errors
    (part,) = place.store.glob("count_shards/*.part")
    assert sorted(path.name for path in (part / "shards").iterdir()) == ["000.txt", "001.txt"]
    assert place.run() == 0
    assert place.content() == undisturbed.content()


def test_of_two_processes_one_works_and_both_see_the_result(tmp_path: Path) -> None:
    place = Place(tmp_path)
    first = place.start("slow")
    place.wait_for("shard 0")
    second = place.start()
    answers = [process.communicate(timeout=60) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0)
    assert answers[0][0] == answers[1][0] == f"{place.artifacts()[0]}\n"
    assert place.log().count("attempt") == 1
    assert answers[1][1].count("another process is working on it") == 1
    assert "another process" not in answers[0][1]


def test_a_waiting_process_takes_over_when_the_owner_is_killed(tmp_path: Path, undisturbed: Place) -> None:
    place = Place(tmp_path)
    first = place.start("wait between shards")
    place.wait_for("waiting")
    second = place.start()
    line = second.stderr.readline() + second.stderr.readline() if second.stderr else ""
    assert "another process is working on it" in line
    first.kill()
    first.communicate(timeout=30)
    second.communicate(timeout=60)
    assert second.returncode == 0
    assert place.content() == undisturbed.content()
    assert [line for line in place.log() if line.startswith("shard")] == [f"shard {i}" for i in range(4)]


def test_work_of_another_fingerprint_is_never_continued(tmp_path: Path, undisturbed: Place) -> None:
    place = Place(tmp_path)
    digits = undisturbed.record()["fingerprint"]
    stranger = place.store / "count_shards" / f"{digits[:12]}{'0' * 52}.part" / "shards"
    stranger.mkdir(parents=True)
    (stranger / "000.txt").write_text("of something else")
    assert place.run() == 0
    assert place.content() == undisturbed.content()
    assert (stranger / "000.txt").read_text() == "of something else"
