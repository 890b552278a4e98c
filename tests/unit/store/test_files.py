"""The user's files are known by content; where they lie never matters."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from airlab.errors import UserError
from airlab.store.files import Files
from airlab.store.fingerprint import fingerprint
from airlab.store.stage import Stage


@dataclass(frozen=True)
class ReadFiles(Stage):
    VERSION: ClassVar[int] = 1
    files: Files


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_path_never_enters_the_identity(tmp_path: Path) -> None:
    here, there = (Files.of(put(tmp_path / name, "same")) for name in ("a/x.jsonl", "b/y.jsonl"))
    assert here == there
    assert here.path != there.path
    assert fingerprint(ReadFiles(here)) == fingerprint(ReadFiles(there))
    assert str(here.path) not in repr(here)


def test_a_folder_is_its_relative_names_and_contents(tmp_path: Path) -> None:
    for name in ("one", "two"):
        put(tmp_path / name / "b.txt", "b")
        put(tmp_path / name / "deep" / "a.txt", "a")
    one, two = Files.of(tmp_path / "one"), Files.of(tmp_path / "two")
    assert one == two
    (tmp_path / "two" / "b.txt").rename(tmp_path / "two" / "c.txt")
    assert Files.of(tmp_path / "two") != one
    (tmp_path / "two" / "c.txt").rename(tmp_path / "two" / "b.txt")
    put(tmp_path / "two" / "deep" / "a.txt", "A")
    assert Files.of(tmp_path / "two") != one


def test_moving_bytes_between_files_changes_the_hash(tmp_path: Path) -> None:
    put(tmp_path / "one" / "a", "xy")
    put(tmp_path / "one" / "b", "z")
    put(tmp_path / "two" / "a", "x")
    put(tmp_path / "two" / "b", "yz")
    assert Files.of(tmp_path / "one") != Files.of(tmp_path / "two")


def test_a_file_larger_than_a_read_is_hashed_to_its_end(tmp_path: Path) -> None:
    content = bytes(3 << 20)
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "b").write_bytes(content[:-1] + b"\1")
    assert Files.of(tmp_path / "a") != Files.of(tmp_path / "b")


def test_missing_and_empty_places_are_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        Files.of(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no files"):
        Files.of(tmp_path / "empty")


def test_linked_files_count_and_linked_folders_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "real" / "a", "x")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a").symlink_to(tmp_path / "real" / "a")
    assert Files.of(tmp_path / "links") == Files.of(tmp_path / "real")
    (tmp_path / "links" / "more").symlink_to(tmp_path / "real")
    with pytest.raises(UserError, match="links to a folder"):
        Files.of(tmp_path / "links")


def test_a_dangling_link_is_named(tmp_path: Path) -> None:
    put(tmp_path / "folder" / "a", "x")
    (tmp_path / "folder" / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="gone"):
        Files.of(tmp_path / "folder")
