"""What leaves one store arrives in another as if it had been made there, or nothing of it does."""

import io
import json
import os
import shutil
import tarfile
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
from airlab.store.packed import pack, packed_folders, unpacked
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
    "half a copy": (lambda f: f.with_name(durable.WRITING + f.name).mkdir(), "is no archived artifact"),
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
    with pytest.raises(UserError, match=r"artifact write_lines/lines-2-.* is damaged"):
        archive(store, STAGES, root)
    shutil.rmtree(broken)
    (store.folder(STAGES[1]) / "lines").write_text("9 lines\n")
    with pytest.raises(UserError, match="its file lines was changed"):
        archive(store, STAGES, root)
    assert contents(root) == {}


def test_after_a_kill_the_same_command_finishes(root: Path, store: Store, other: Store) -> None:
    name = store.folder(STAGES[0]).name
    half = other.root / "write_lines" / f"{durable.WRITING}{name}"  # as it is left in the middle of a copy
    half.mkdir(parents=True)
    (half / "lines").write_text("1 li")
    assert other.record(STAGES[0]) is None and take_inventory(other.root).finished == ()
    restore(root, other)
    assert other.verify(STAGES[0]) and not half.exists()


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


def test_an_archive_names_artifacts_as_stores_do(root: Path) -> None:
    (folder, _) = archives.archived_folders(root)
    assert folder.parent.name == "write_lines" and folder.name.startswith("lines-1-")
    assert read_archived(folder).fingerprint == fingerprint(STAGES[0])


def test_packed_and_unpacked_it_is_the_same_and_so_is_the_file(root: Path, tmp_path: Path) -> None:
    file, again = tmp_path / "a.tar.xz", tmp_path / "b.tar.xz"
    pack(root, file)
    for path in root.rglob("*"):
        os.utime(path, (4e9, 4e9))
    with unpacked(file) as folder:
        assert contents(folder) == contents(root)
        pack(folder, again)
    assert not folder.exists()
    assert file.read_bytes() == again.read_bytes()
    assert packed_folders(file) == {path.relative_to(root) for path in archives.archived_folders(root)}


def test_what_two_artifacts_have_in_common_is_packed_once(tmp_path: Path) -> None:
    noise = os.urandom(200_000)
    for name in ("one", "other"):
        folder = tmp_path / "root" / "evaluate" / name
        folder.mkdir(parents=True)
        (folder / "records").write_bytes(noise + name.encode())
    pack(tmp_path / "root", tmp_path / "file")
    assert (tmp_path / "file").stat().st_size < 1.1 * len(noise)


def test_a_file_that_cannot_be_written_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file/a: .*; choose another folder"):
        pack(root, tmp_path / "file" / "a")


def written(tmp_path: Path, *members: tuple[str, bytes | None]) -> Path:
    """A packed archive of whatever members; None makes a link to the user's file of passwords."""
    with tarfile.open(tmp_path / "made.tar.xz", "w:xz") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if content is None:
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                member.size = len(content)
            tar.addfile(member, None if content is None else io.BytesIO(content))
    return tmp_path / "made.tar.xz"


@pytest.mark.parametrize(
    "members",
    [
        [("write_lines/../../out", b"x")],
        [("/etc/airlab/out", b"x")],
        [("write_lines/lines-1/./out", b"x")],
        [("write_lines/lines-1//out", b"x")],
        [("write_lines/lines-1/lines", None)],
        [("record.json", b"{}")],
        [("write_lines/lines-1/a\nb", b"x")],
    ],
)
def test_what_is_no_file_of_an_artifact_is_not_unpacked(
    tmp_path: Path, members: list[tuple[str, bytes | None]]
) -> None:
    file = written(tmp_path, *members)
    with pytest.raises(UserError, match=r"is no whole archive of airlab's .* is no file of an artifact"):
        packed_folders(file)
    with (
        pytest.raises(UserError, match=r"is no whole archive of airlab's .* is no file of an artifact"),
        unpacked(file),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["made.tar.xz"]


def test_a_file_twice_or_half_a_file_or_none_is_refused(root: Path, tmp_path: Path) -> None:
    twice = written(tmp_path, ("a/b/c", b"x"), ("a/b/c", b"y"))
    half = tmp_path / "half"
    pack(root, half)
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    text = tmp_path / "text"
    text.write_text("artifacts")
    for file, told in (
        (twice, "exists"),
        (half, "is no whole"),
        (text, "is no whole"),
        (root / "no", "No such"),
    ):
        with pytest.raises(UserError, match=told), unpacked(file):
            pass
