"""An artifact that was edited by hand is noticed when it is opened; untouched ones are not read for it."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import ClassVar

import pytest

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.store import provenance as provenances
from airlab.store import touched
from airlab.store.files import Files
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store
from tests.faults.ledger import FULL, count


@dataclass(frozen=True)
class WriteNumbers(Stage):
    VERSION: ClassVar[int] = 1

    def run(self, work: Workdir, machine: Machine) -> None:
        for name in ("a.bin", "inner/b.bin", "z.bin"):
            with work.writing(name) as path:
                path.write_bytes(bytes(range(256)) * 4)


@dataclass(frozen=True)
class ReadNumbers(Stage):
    VERSION: ClassVar[int] = 1
    numbers: Stage

    def run(self, work: Workdir, machine: Machine) -> None:
        with work.writing("size") as path:
            path.write_text(str((work.input(self.numbers) / "a.bin").stat().st_size))


NUMBERS, READER = WriteNumbers(), ReadNumbers(WriteNumbers())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "store")
    Plan(made, [NUMBERS]).run(Machine())
    return made


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are hashed from now on."""
    found: list[str] = []
    original = hashlib.file_digest

    def file_digest(stream, *arguments):  # type: ignore[no-untyped-def]
        found.append(Path(stream.name).name)
        return original(stream, *arguments)

    monkeypatch.setattr(touched.hashlib, "file_digest", file_digest)
    return found


def edit(path: Path, random: Random) -> None:
    """One byte, in place; the size stays."""
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= 1 + random.randrange(255)
    path.write_bytes(content)


def edit_and_set_back_the_clock(path: Path, random: Random) -> None:
    facts = path.stat()
    edit(path, random)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def put_another_in_its_place(path: Path, random: Random) -> None:
    other = path.with_name("other")
    shutil.copy2(path, other)
    edit_and_set_back_the_clock(other, random)
    other.replace(path)


EDITS: list[Callable[[Path, Random], None]] = [edit, edit_and_set_back_the_clock, put_another_in_its_place]
COPIES: dict[str, Callable[[Path, Path], object]] = {
    "nothing": lambda here, there: here.rename(there),
    "keeping times": lambda here, there: shutil.copytree(here, there),
    "with new times": lambda here, there: shutil.copytree(here, there, copy_function=shutil.copyfile),
}


@pytest.mark.parametrize("change", EDITS)
@pytest.mark.parametrize("name", ["a.bin", "inner/b.bin", "z.bin"])
def test_an_edit_that_keeps_the_size_is_noticed_on_open(
    store: Store, tmp_path: Path, name: str, change: Callable[[Path, Random], None]
) -> None:
    random = Random(name)
    times = 20 if FULL else 2
    for _ in range(times):
        change(store.open(NUMBERS) / name, random)
        for look in (store.find, store.open, store.verify, lambda stage: store.make(stage, Machine())):
            with pytest.raises(UserError, match=f"its file {name} was changed after it was finished; delete"):
                look(NUMBERS)
        with pytest.raises(UserError, match="was changed"):
            Plan(store, [READER]).run(Machine())
        assert store.find(READER) is None
        shutil.rmtree(store.folder(NUMBERS))
        Plan(store, [NUMBERS]).run(Machine())
    count("identity", "artifacts edited by hand", faults=times)


@pytest.mark.parametrize("copy", ["keeping times"])
@pytest.mark.parametrize("name", ["a.bin", "inner/b.bin", "z.bin"])
def test_an_edit_is_noticed_in_a_copy_of_the_store(
    store: Store, tmp_path: Path, copy: str, name: str
) -> None:
    path = store.open(NUMBERS) / name
    edit(path, Random(1))
    later = store.record(NUMBERS)
    assert later is not None
    os.utime(path, ns=(touched._ended(later) + 2 * 10**9,) * 2)  # an edit takes place later than the end
    COPIES[copy](store.root, tmp_path / "copy")
    with pytest.raises(UserError, match="was changed"):
        Store(tmp_path / "copy").open(NUMBERS)
    count("identity", "artifacts edited by hand, then copied", faults=1)


@pytest.mark.parametrize("copy", COPIES)
def test_a_store_may_be_moved_and_copied_and_is_read_at_most_once(
    store: Store, tmp_path: Path, copy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.open(NUMBERS)
    COPIES[copy](store.root, tmp_path / "copy")
    other = Store(tmp_path / "copy")
    other.open(NUMBERS)
    other.open(NUMBERS)  # what was changed within one tick of the clock with the record may be read again
    found = reads(monkeypatch)
    other.open(NUMBERS)
    assert found == []


def test_a_changed_copy_with_new_times_is_noticed(store: Store, tmp_path: Path) -> None:
    edit(store.open(NUMBERS) / "a.bin", Random(2))
    COPIES["with new times"](store.root, tmp_path / "copy")
    with pytest.raises(UserError, match=r"a\.bin was changed"):
        Store(tmp_path / "copy").open(NUMBERS)
    count("identity", "artifacts edited by hand, then copied", faults=1)


def test_a_link_in_the_place_of_a_file_and_a_file_too_many_are_noticed(store: Store, tmp_path: Path) -> None:
    folder = store.open(NUMBERS)
    (folder / "more").write_text("x")
    with pytest.raises(UserError, match="more was added"):
        store.open(NUMBERS)
    (folder / "more").unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(bytes(1024))
    (folder / "a.bin").unlink()
    (folder / "a.bin").symlink_to(elsewhere)
    with pytest.raises(UserError, match=r"a\.bin was changed"):
        store.open(NUMBERS)
    count("identity", "artifacts edited by hand", faults=2)


@pytest.mark.parametrize("package", ["torch", "transformers", "tokenizers"])
def test_what_another_major_version_made_is_not_used(
    store: Store, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = provenances._packages()[package]
    major, _, rest = version.partition(".")
    for other, used in ((f"{major}.999.0", True), (f"{int(major) + 1}.{rest}", False)):
        monkeypatch.setattr(provenances, "_packages", lambda other=other: {"python": "3", package: other})
        if used:
            store.open(NUMBERS)
            continue
        sentence = f"was made with {package} {version}, and {other} is installed.*install {package} {major}"
        for look in (store.find, store.open):
            with pytest.raises(UserError, match=sentence.replace("+", r"\+")):
                look(NUMBERS)
        with pytest.raises(UserError, match="choose another store"):
            Plan(store, [READER]).run(Machine())
    count("identity", "artifacts of another major version of a library", faults=1)


@dataclass(frozen=True)
class ReadFile(Stage):
    VERSION: ClassVar[int] = 1
    given: Files
    during: ClassVar[Callable[[], object]] = staticmethod(lambda: None)

    def run(self, work: Workdir, machine: Machine) -> None:
        with work.writing("copy") as path:
            path.write_bytes(self.given.path.read_bytes())
        ReadFile.during()


@pytest.mark.parametrize("when", ["before", "while"])
def test_an_input_that_changes_before_or_while_it_is_read_makes_no_artifact(
    tmp_path: Path, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tmp_path / "given.txt"
    given.write_text("one")
    store, stage = Store(tmp_path / "store"), ReadFile(Files.of(given))
    if when == "before":
        given.write_text("two")
    else:
        monkeypatch.setattr(ReadFile, "during", staticmethod(lambda: given.write_text("two")))
    with pytest.raises(UserError, match=r"given\.txt was changed while it was used"):
        Plan(store, [stage]).run(Machine())
    assert store.find(stage) is None
    monkeypatch.setattr(ReadFile, "during", staticmethod(lambda: None))
    given.write_text("one")
    given.touch()  # other times, the same content
    Plan(store, [stage]).run(Machine())
    assert (store.open(stage) / "copy").read_text() == "one"
    count("identity", "input files edited while they are used", faults=1)


def test_a_record_with_other_versions_written_into_it_is_damaged(store: Store) -> None:
    path = store.open(NUMBERS) / "record.json"
    record = json.loads(path.read_text())
    record["provenance"]["packages"]["torch"] = "1.0"
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"record\.json was changed"):
        store.open(NUMBERS)
    count("identity", "records edited by hand", faults=1)
