"""Stages know their name and inputs; a working folder holds only whole files."""

import errno
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from airlab.errors import UserError
from airlab.schema.base import Frozen
from airlab.store import durable
from airlab.store.stage import Stage, Workdir


@dataclass(frozen=True)
class MeasureHTMLLosses2(Stage):
    VERSION: ClassVar[int] = 1
    value: Any = None


class Holder(Frozen):
    inside: Any


def workdir(folder: Path) -> Workdir:
    return Workdir(folder, lambda stage: folder)


def test_the_name_is_the_class_name_in_snake_case() -> None:
    assert MeasureHTMLLosses2().name == "measure_html_losses2"


def test_inputs_are_found_wherever_an_identity_may_hold_them() -> None:
    a, b, c, d = (MeasureHTMLLosses2(i) for i in range(4))
    stage = MeasureHTMLLosses2((a, (b, 1, "x"), {"k": c}, Holder(inside=d), None))
    assert stage.inputs() == (a, b, c, d)
    assert MeasureHTMLLosses2(stage).inputs() == (stage,)


def test_writing_shows_a_name_only_when_it_is_whole(tmp_path: Path) -> None:
    work = workdir(tmp_path)
    with work.writing("deep/part.bin") as temporary:
        temporary.write_bytes(b"half")
        assert temporary.suffix == ".bin"
        assert not work.has("deep/part.bin")
        temporary.write_bytes(b"whole")
    assert work.has("deep/part.bin")
    assert work.path("deep/part.bin").read_bytes() == b"whole"


def test_an_error_while_writing_leaves_the_old_file_and_no_scrap(tmp_path: Path) -> None:
    work = workdir(tmp_path)
    with work.writing("a") as temporary:
        temporary.write_text("old")
    with pytest.raises(ZeroDivisionError), work.writing("a") as temporary:
        temporary.write_text("new")
        _ = 1 / 0
    assert work.path("a").read_text() == "old"
    assert not list(tmp_path.glob(".writing-a"))


def test_a_whole_folder_can_be_written_and_replaced(tmp_path: Path) -> None:
    work = workdir(tmp_path)
    for text in ("one", "two"):
        with work.writing("checkpoint") as temporary:
            temporary.mkdir()
            (temporary / text).write_text(text)
    assert [path.name for path in work.path("checkpoint").iterdir()] == ["two"]


def test_writing_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="nothing was written"), workdir(tmp_path).writing("a"):
        pass


def test_leftovers_of_a_killed_attempt_are_swept_and_its_notes_kept(tmp_path: Path) -> None:
    first = workdir(tmp_path)
    with first.writing("a") as temporary:
        temporary.write_text("x")
    first.note(rows=3)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / f"{durable.WRITING}b").write_text("half")
    (tmp_path / f"{durable.WRITING}folder").mkdir()
    second = workdir(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(durable.WRITING)]
    assert second.has("a")
    assert second.notes == {"rows": 3}
    assert second.wall_s >= json.loads((tmp_path / ".attempts.json").read_text())["wall_s"]


@pytest.mark.parametrize(
    "name", ["", "/etc/x", "../x", "a/../../x", "record.json", ".attempts.json", ".writing-a"]
)
def test_names_outside_the_folder_or_kept_for_the_store_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError):
        workdir(tmp_path).path(name)


@pytest.mark.parametrize("value", [float("nan"), Path("x"), {1, 2}])
def test_notes_must_be_json(tmp_path: Path, value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        workdir(tmp_path).note(value=value)


@pytest.mark.parametrize(
    ("error", "free_bytes"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 7 << 20),
        (RuntimeError("write failed: No space left on device"), 7 << 20),
        (OSError("600000 requested and 379904 written"), 0),
        (RuntimeError("file write failed"), 0),
    ],
    ids=["the system", "a library's words", "NumPy", "PyTorch"],
)
def test_a_full_disk_becomes_a_sentence_and_earlier_files_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, free_bytes: int
) -> None:
    work = workdir(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free_bytes))
    with work.writing("first") as temporary:
        temporary.write_text("kept")
    room = (free_bytes >> 20) + 3
    sentence = rf"disk is full.*second needs more than the {room}\.0 MiB there is.*run the same command again"
    with pytest.raises(UserError, match=sentence) as caught, work.writing("second") as temporary:
        temporary.write_bytes(bytes(3 << 20))
        raise error
    assert caught.value.__cause__ is error
    assert work.path("first").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".attempts.json", "first"]


def test_other_errors_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, free in ((RuntimeError("odd"), 1 << 30), (PermissionError(13, "no"), 0), (KeyError("x"), 0)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        with pytest.raises(type(error)) as caught, workdir(tmp_path).writing("a"):
            raise error
        assert caught.value is error


def test_the_disk_that_is_full_is_named_and_not_another(tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no second file system at /dev/shm")
    for named, told in ((elsewhere / "job.json", elsewhere), (tmp_path / "b", tmp_path)):
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(named))
        assert f"the disk is full: {told}/" in str(durable.disk_trouble(error, tmp_path / "a", 0))


@pytest.mark.parametrize("code", [errno.EROFS, errno.EIO, errno.EFBIG])
def test_a_disk_that_does_not_take_what_is_written_becomes_a_sentence(tmp_path: Path, code: int) -> None:
    for error in (
        OSError(code, os.strerror(code)),
        RuntimeError(f"I/O error: {os.strerror(code)} (os error)"),
    ):
        with (
            pytest.raises(UserError, match=f"does not take .*: {os.strerror(code).lower()}; mend that"),
            workdir(tmp_path).writing("a"),
        ):
            raise error


def test_a_folder_is_replaced_by_renames_and_put_back_if_that_was_stopped(tmp_path: Path) -> None:
    """No half of either ever has the final name: what is deleted file by file has another by then."""
    final, hidden = tmp_path / "table", tmp_path / f"{durable.REPLACED}table"
    for content in ("old", "new"):
        with durable.written(final) as temporary:
            temporary.mkdir()
            (temporary / "a").write_text(content)
    assert [path.name for path in tmp_path.iterdir()] == ["table"]
    final.rename(hidden)  # as a kill between the two renames leaves it
    with pytest.raises(KeyError), durable.written(final):
        raise KeyError
    assert (final / "a").read_text() == "new" and not hidden.exists()


def test_a_full_disk_is_noticed_when_flushing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="disk is full"), workdir(tmp_path).writing("a") as temporary:
        temporary.write_text("x")
    assert not (tmp_path / "a").exists()
