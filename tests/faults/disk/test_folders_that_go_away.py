"""Folders that another program deletes in the middle: one sentence, and the same command goes on."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store
from tests.faults.ledger import count

TEMPORARY = {"gone": False}


@dataclass(frozen=True)
class NeedsTemporary(Stage):
    """Uses a temporary folder, as evaluation and training of several processes do."""

    VERSION: ClassVar[int] = 1

    def run(self, work: Workdir, machine: Machine) -> None:
        with tempfile.TemporaryDirectory() as folder, work.writing("a") as path:
            Path(folder, "job").write_text("asked")
            path.write_text("made")


@dataclass(frozen=True)
class LosesItsFolder(Stage):
    """Its unfinished folder is deleted while it works, once."""

    VERSION: ClassVar[int] = 1

    def run(self, work: Workdir, machine: Machine) -> None:
        if not TEMPORARY["gone"]:
            TEMPORARY["gone"] = True
            shutil.rmtree(work.folder)
        with (work.folder / "a").open("w") as file:
            file.write("made")


def test_a_folder_of_temporary_files_that_went_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, store = tmp_path / "tmp", Store(tmp_path / "store")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with pytest.raises(UserError, match=f"temporary files {folder} went away.*TMPDIR.*same command again"):
        store.make(NeedsTemporary(), Machine())
    folder.mkdir()
    assert (store.make(NeedsTemporary(), Machine()) / "a").read_text() == "made"
    count("disk", "temporary folders that went away", faults=1)


def test_an_unfinished_folder_that_went_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TEMPORARY, "gone", False)
    store = Store(tmp_path)
    with pytest.raises(UserError, match=r"\.part was deleted by another program; run the same command again"):
        store.make(LosesItsFolder(), Machine())
    assert (store.make(LosesItsFolder(), Machine()) / "a").read_text() == "made"
    count("disk", "unfinished folders that went away", faults=1)


def test_a_file_that_is_missing_for_another_reason_stays_an_error(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Mistaken(Stage):
        VERSION: ClassVar[int] = 1

        def run(self, work: Workdir, machine: Machine) -> None:
            (work.folder / "never written").read_text()

    with pytest.raises(FileNotFoundError):
        Store(tmp_path).make(Mistaken(), Machine())
