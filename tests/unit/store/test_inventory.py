"""An inventory tells what is finished, begun, held and damaged, and leaves everything as it was."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from airlab.schema.machine import Machine
from airlab.store import inventory
from airlab.store.fingerprint import fingerprint
from airlab.store.inventory import Artifact, take_inventory
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store

HOLDS = """
import sys
from pathlib import Path
from airlab.schema.machine import Machine
from airlab.store.store import Store
from tests.unit.store.test_inventory import WriteShards
WriteShards.wait = staticmethod(lambda: (print("begun", flush=True), sys.stdin.read()))
Store(Path(sys.argv[1])).make(WriteShards(2), Machine())
"""


@dataclass(frozen=True)
class WriteShards(Stage):
    """Two shards and a summary; what happens between is the tests' business."""

    VERSION: ClassVar[int] = 1
    number: int

    @staticmethod
    def wait() -> None:
        """Between the shards and the summary."""

    def slug(self) -> str:
        return f"number {self.number}"

    def run(self, work: Workdir, machine: Machine) -> None:
        for shard in range(2):
            with work.writing(f"shards/{shard}") as path:
                path.write_text(f"{shard * self.number}\n" * 100)
        self.wait()
        with work.writing("summary") as path:
            path.write_text("done\n")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def begun(store: Store, stage: WriteShards, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop a stage between its shards and its summary."""

    def stop() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(WriteShards, "wait", staticmethod(stop))
        store.make(stage, Machine())


def contents(root: Path) -> dict[str, tuple[int, int]]:
    """Every name with its size and the time of its last change."""
    found = {str(path): path.stat() for path in sorted(root.rglob("*"))}
    return {name: (facts.st_size, facts.st_mtime_ns) for name, facts in found.items()}


def only(store: Store) -> Artifact:
    (artifact,) = take_inventory(store.root).finished
    return artifact


def test_a_store_that_is_not_there_is_empty(store: Store) -> None:
    found = take_inventory(store.root)
    assert found.finished == found.unfinished == ()
    assert not store.root.exists()


def test_what_is_finished_is_found_with_its_record_and_size(store: Store) -> None:
    folder = store.make(WriteShards(1), Machine())
    artifact = only(store)
    assert (artifact.stage, artifact.folder, artifact.damage) == ("write_shards", folder, None)
    assert artifact.record is not None and artifact.record.fingerprint == fingerprint(WriteShards(1))
    assert artifact.n_bytes == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_what_is_begun_is_told_with_what_it_keeps(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(store, WriteShards(3), monkeypatch)
    found = take_inventory(store.root)
    (part,) = found.unfinished
    assert found.finished == ()
    assert (part.stage, part.fingerprint) == ("write_shards", fingerprint(WriteShards(3)))
    assert dict(part.kept) == {"shards": 2}
    assert part.worker is None and part.spent_s > 0 and part.began <= part.last
    assert part.n_bytes > 200


def test_half_a_file_is_nothing_that_is_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(store, WriteShards(3), monkeypatch)
    (store.part(WriteShards(3)) / "shards" / ".writing-2").write_text("hal")
    (store.part(WriteShards(3)) / "shards" / ".writing-folder").mkdir()
    (store.part(WriteShards(3)) / "shards" / ".writing-folder" / "x").write_text("f")
    (part,) = take_inventory(store.root).unfinished
    assert dict(part.kept) == {"shards": 2}


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="this system does not tell who holds a lock")
def test_another_process_that_works_on_it_is_named(store: Store) -> None:
    command = [sys.executable, "-c", HOLDS, str(store.root)]
    other = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
    )
    assert other.stdin and other.stdout
    assert other.stdout.readline() == "begun\n"
    (part,) = take_inventory(store.root).unfinished
    assert part.worker == other.pid
    other.stdin.close()
    assert other.wait() == 0
    found = take_inventory(store.root)
    assert (len(found.finished), len(found.unfinished)) == (1, 0)


def test_where_the_system_tells_no_locks_nothing_is_claimed(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(inventory, "_LOCKS", tmp_path / "none")
    assert not take_inventory(store.root).tells_workers


def test_who_only_waits_for_a_lock_does_not_hold_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks = tmp_path / "locks"
    locks.write_text(
        "1: FLOCK  ADVISORY  WRITE 22 fe:00:77 0 EOF\n"
        "1: -> FLOCK  ADVISORY  WRITE 33 fe:00:77 0 EOF\n"
        "2: POSIX  ADVISORY  READ 44 00:2c:88 128 128\n"
    )
    monkeypatch.setattr(inventory, "_LOCKS", locks)
    assert inventory.lock_holders() == {77: 22, 88: 44}


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda folder: (folder / "summary").unlink(), "its file summary is missing"),
        (lambda folder: (folder / "summary").write_text("d"), "its file summary has 1 bytes instead of 5"),
        (lambda folder: (folder / "record.json").unlink(), "its record.json cannot be read"),
        (lambda folder: (folder / "record.json").write_text("{"), "its record.json cannot be read"),
        (
            lambda folder: (folder / "record.json").write_text(
                (folder / "record.json").read_text().replace('"notes": {}', '"notes": {"n": 1}')
            ),
            "its record.json was changed after it was written",
        ),
        (lambda folder: folder.rename(folder.with_name("0" * 12)), "it holds the result of another stage"),
    ],
)
def test_damage_is_named(store: Store, harm: object, told: str) -> None:
    harm(store.make(WriteShards(1), Machine()))  # type: ignore[operator]
    artifact = only(store)
    assert artifact.damage == told and artifact.record is None


def test_an_artifact_in_another_stages_folder_is_damaged(store: Store) -> None:
    folder = store.make(WriteShards(1), Machine())
    (store.root / "other_stage").mkdir()
    folder.rename(store.root / "other_stage" / folder.name)
    assert only(store).damage == "it holds the result of another stage"


def test_what_no_stage_left_is_left_out(store: Store) -> None:
    store.make(WriteShards(1), Machine())
    (store.root / "tracking" / "write_shards" / "number-1-0123456789ab").mkdir(parents=True)
    (store.root / "cache" / "downloads").mkdir(parents=True)
    (store.root / "note.txt").write_text("mine")
    assert len(take_inventory(store.root).finished) == 1


def test_looking_changes_nothing_and_hashes_no_contents(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.make(WriteShards(1), Machine())
    begun(store, WriteShards(3), monkeypatch)
    (store.part(WriteShards(3)) / ".writing-left").write_text("left by a kill")

    def refused(*_: object) -> None:
        raise AssertionError("a file's content was hashed")

    monkeypatch.setattr("hashlib.file_digest", refused)
    before = contents(store.root)
    found = take_inventory(store.root)
    assert (len(found.finished), len(found.unfinished)) == (1, 1)
    assert contents(store.root) == before


def test_what_vanishes_meanwhile_is_left_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.make(WriteShards(1), Machine())
    begun(store, WriteShards(3), monkeypatch)
    walk = os.walk

    def promoted(folder: Path) -> object:
        part = store.part(WriteShards(3))
        if folder == part:
            part.rename(part.with_name("number-3-" + part.name[:12]))
        return walk(folder)

    monkeypatch.setattr(os, "walk", promoted)
    found = take_inventory(store.root)
    assert (len(found.finished), len(found.unfinished)) == (1, 0)
