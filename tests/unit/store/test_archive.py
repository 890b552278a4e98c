"""What leaves one store arrives in another as if it had been made there, or nothing of it does."""

import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.store import archive as archives
from airlab.store import copies, durable, touched
from airlab.store.archive import archive, read_archived, restore
from airlab.store.fingerprint import fingerprint
from airlab.store.inventory import take_inventory
from airlab.store.record import Record, _seal
from airlab.store.stage import RECORD, Stage, Workdir
from airlab.store.store import Store


@dataclass(frozen=True)
class WriteLines(Stage):
    """Files in a folder and beside it."""

    VERSION: ClassVar[int] = 1
    number: int

    def slug(self) -> str:
        return f"Lines {self.number}"

    def run(self, work: Workdir, machine: Machine) -> None:
        for name in ("lines", "inner/more"):
            with work.writing(name) as path:
                path.write_text(f"{self.number} {name}\n")
        work.note(n=self.number)


STAGES = (WriteLines(1), WriteLines(2))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store")
    for stage in STAGES:
        made.make(stage, Machine())
    return made


@pytest.fixture
def root(store: Store, tmp_path: Path) -> Path:
    """An archive of both."""
    archive(store, STAGES, tmp_path / "archive")
    return tmp_path / "archive"


@pytest.fixture
def other(tmp_path: Path) -> Store:
    return Store(tmp_path / "other")


def contents(root: Path) -> dict[str, bytes]:
    """Every file of artifacts, leases left out."""
    files = (path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".lease-"))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def numbers(records: tuple[Record, ...]) -> list[object]:
    return [record.notes["n"] for record in records]


def test_an_archive_holds_what_the_store_holds_and_another_store_gets_it_all(
    store: Store, root: Path, other: Store
) -> None:
    assert contents(root) == contents(store.root)
    done = restore(root, other)
    assert (numbers(done.copied), done.already_there) == ([1, 2], ())
    assert contents(other.root) == contents(store.root)
    for stage in STAGES:
        assert other.verify(stage) == store.verify(stage)
    assert all(artifact.damage is None for artifact in take_inventory(other.root).finished)


def test_what_was_restored_is_not_run_and_not_read_again(
    root: Path, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in root.rglob("*"):
        os.utime(path, (4e9, 4e9))  # as a checkout leaves it: times of its own
    restore(root, other)
    for stage in STAGES:
        other.open(stage)  # what was changed within one tick of the clock with the record may be read again

    def refused(*_: object) -> None:
        raise AssertionError("a file was hashed, or a stage run")

    monkeypatch.setattr(touched.hashlib, "file_digest", refused)
    monkeypatch.setattr(WriteLines, "run", refused)
    for stage in STAGES:
        assert other.make(stage, Machine()) == other.folder(stage)


def test_what_is_there_is_neither_copied_nor_looked_at(root: Path, store: Store, other: Store) -> None:
    folder = other.make(STAGES[0], Machine())
    (folder / "lines").write_text("mine\n")
    before = contents(other.root)
    done = restore(root, other)
    assert (numbers(done.copied), numbers(done.already_there)) == ([2], [1])
    assert before.items() <= contents(other.root).items()
    assert numbers(restore(root, other).already_there) == [1, 2]
    again = archive(store, STAGES, root)
    assert (again.copied, numbers(again.already_there)) == ((), [1, 2])


def test_an_artifact_with_a_reworded_slug_is_the_same(
    root: Path, store: Store, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore(root, other)
    monkeypatch.setattr(WriteLines, "slug", lambda self: "reworded")
    assert archive(store, STAGES, root).copied == restore(root, other).copied == ()
    assert other.verify(STAGES[0])


def reseal(folder: Path, **changes: object) -> None:
    """Edit a record and seal it again, as nobody does by accident."""
    content = json.loads((folder / RECORD).read_text()) | changes
    content.pop("seal")
    (folder / RECORD).write_text(json.dumps(content | {"seal": _seal(content)}))


def link(path: Path) -> None:
    shutil.move(path, path.parents[3] / "elsewhere")
    path.symlink_to(path.parents[3] / "elsewhere")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte": (lambda f: (f / "lines").write_text("9 lines\n"), "its file lines was changed"),
    "a file less": (lambda f: (f / "lines").unlink(), "its file lines is missing"),
    "a file more": (lambda f: (f / "extra").touch(), "the file extra was added"),
    "notes of an attempt": (lambda f: (f / ".attempts.json").touch(), "the file .attempts.json was added"),
    "a link": (lambda f: link(f / "lines"), "lines is a link"),
    "a linked record": (lambda f: link(f / RECORD), "record.json is a link"),
    "a linked folder": (link, "is no archived artifact"),
    "a pipe": (lambda f: os.mkfifo(f / "pipe"), "pipe is a link or a device"),
    "an edited record": (
        lambda f: (f / RECORD).write_text((f / RECORD).read_text().replace('"n": 2', '"n": 3')),
        "its record.json was changed",
    ),
    "a number that is none": (
        lambda f: (f / RECORD).write_text((f / RECORD).read_text().replace('"n": 2', '"n": NaN')),
        "its record.json cannot be read",
    ),
    "no record": (lambda f: (f / RECORD).unlink(), "its record.json cannot be read"),
    "another name": (lambda f: reseal(f, name="other"), "it holds the result of another stage"),
    "a name that leads out": (lambda f: reseal(f, name="../out"), "it holds the result of another stage"),
    "a file outside": (
        lambda f: reseal(f, manifest={"../../../secret": {"size": 6, "sha256": "0" * 64}}),
        "is missing",
    ),
    "other digits": (lambda f: f.rename(f.with_name("lines-2-" + "0" * 12)), "the result of another stage"),
    "no digits": (lambda f: f.rename(f.with_name("lines")), "is no archived artifact"),
    "another stage's folder": (
        lambda f: f.parent.rename(f.parents[1] / "other"),
        "it holds the result of another stage",
    ),
    "no stage's folder": (lambda f: f.parent.rename(f.parents[1] / "Other"), "is no archived artifact"),
    "a stray file": (lambda f: (f.parents[1] / "README.md").touch(), "README.md is no archived artifact"),
    "half a copy": (
        lambda f: f.with_name(durable.WRITING + f.name).mkdir(),
        "is no archived artifact; delete it",
    ),
}


@pytest.mark.parametrize("harm", DAMAGE)
def test_a_damaged_archive_is_refused_and_nothing_of_it_copied(
    root: Path, store: Store, other: Store, harm: str
) -> None:
    change, told = DAMAGE[harm]
    change(root / "write_lines" / store.folder(STAGES[1]).name)
    with pytest.raises(UserError, match=told):
        restore(root, other)
    assert not other.root.exists()


def test_there_must_be_an_archive(tmp_path: Path, other: Store) -> None:
    with pytest.raises(UserError, match=r"cannot read the archive .*nothing: No such file"):
        restore(tmp_path / "nothing", other)


def test_what_another_run_made_is_not_overwritten_and_nothing_else_is_copied(
    store: Store, tmp_path: Path, other: Store
) -> None:
    other.make(STAGES[1], Machine())
    record = other.folder(STAGES[1])
    reseal(record, wall_s=99.0)
    root = tmp_path / "archive"
    archive(other, STAGES[1:], root)
    before = contents(root)
    with pytest.raises(UserError, match=f"{record.name} was made by another run"):
        archive(store, STAGES, root)
    assert contents(root) == before


def test_what_is_damaged_in_the_store_or_the_archive_is_not_archived(store: Store, root: Path) -> None:
    shutil.rmtree(root / "write_lines" / store.folder(STAGES[0]).name)
    broken = root / "write_lines" / store.folder(STAGES[1]).name
    (broken / "lines").write_text("9 lines\n")
    with pytest.raises(UserError, match=r"archived artifact .* is damaged"):
        archive(store, STAGES, root)
    shutil.rmtree(broken)
    (store.folder(STAGES[1]) / "lines").write_text("9 lines\n")
    with pytest.raises(UserError, match="its file lines was changed"):
        archive(store, STAGES, root)
    assert contents(root) == {}


def test_after_a_kill_the_same_command_finishes(
    store: Store, tmp_path: Path, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, name = tmp_path / "archive", store.folder(STAGES[0]).name
    for place in (root, other.root):  # as it is left in the middle of the first copy
        half = place / "write_lines" / f"{durable.WRITING}{name}"
        half.mkdir(parents=True)
        (half / "lines").write_text("1 li")
        (half.parent / f"{durable.WRITING}{name}.lock").touch()
    assert other.record(STAGES[0]) is None and take_inventory(other.root).finished == ()
    archive(store, STAGES, root)
    assert contents(root) == contents(store.root)
    restore(root, other)
    assert other.verify(STAGES[0]) and not list(other.root.rglob(f"{durable.WRITING}{name}"))


def test_a_lock_that_was_left_beside_a_finished_copy_is_cleared_away(store: Store, root: Path) -> None:
    name = f"{durable.WRITING}{store.folder(STAGES[0]).name}.lock"
    (root / "write_lines" / name).touch()
    assert archive(store, STAGES, root).copied == ()
    assert contents(root) == contents(store.root)


def test_what_changes_while_it_is_copied_is_not_taken(
    root: Path, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    copyfile = shutil.copyfile

    def edited(source: Path, target: Path) -> None:
        copyfile(source, target)
        target.write_bytes(target.read_bytes().replace(b"1 lines", b"8 lines"))

    monkeypatch.setattr(copies.shutil, "copyfile", edited)
    with pytest.raises(UserError, match="was changed while it was copied"):
        restore(root, other)
    assert contents(other.root) == {}


def test_unfinished_work_gives_way_to_what_is_restored(
    root: Path, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Stage, work: Workdir, machine: Machine) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(WriteLines, "run", stop)
        other.make(STAGES[0], Machine())
    assert len(take_inventory(other.root).unfinished) == 1
    restore(root, other)
    found = take_inventory(other.root)
    assert (len(found.finished), len(found.unfinished)) == (2, 0)


def test_whoever_restores_waits_for_whoever_makes_it(
    root: Path, other: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    own = WriteLines.run

    def slow(self: WriteLines, work: Workdir, machine: Machine) -> None:
        begun.set()
        assert go_on.wait(30)
        own(self, work, machine)

    monkeypatch.setattr(WriteLines, "run", slow)
    monkeypatch.setattr("airlab.store.store.announce", lambda _: go_on.set())  # it says that it waits
    maker = threading.Thread(target=lambda: other.make(STAGES[0], Machine()))
    maker.start()
    assert begun.wait(30)
    done = restore(root, Store(other.root))
    maker.join()
    assert (numbers(done.copied), numbers(done.already_there)) == ([2], [1])


def test_an_archive_that_cannot_be_written_to_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to .*file: .*; choose another output"):
        archive(store, STAGES, tmp_path / "file")


def test_an_archive_names_artifacts_as_stores_do(root: Path) -> None:
    (folder, _) = archives.archived_folders(root)
    assert folder.parent.name == "write_lines" and folder.name.startswith("lines-1-")
    assert read_archived(folder).fingerprint == fingerprint(STAGES[0])
