"""A pinned wheel is the pinned bytes or a sentence; pip is only imitated here."""

import hashlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from airlab.errors import UserError
from airlab.schema.text import WheelPin
from airlab.text.wheels import cache_folder, fetch_wheel

CONTENT = b"wheel bytes"
PLATFORM = "p-1.0-cp311-cp311-manylinux2014_x86_64.manylinux_2_28_x86_64.whl"


def pin(file: str = "p-1.0-py3-none-any.whl", content: bytes = CONTENT) -> WheelPin:
    return WheelPin(name="p", version="1.0", file=file, sha256=hashlib.sha256(content).hexdigest())


class Pip:
    """Writes `serves` into the folder pip is told to use and remembers the command."""

    def __init__(self, serves: str | None, content: bytes = CONTENT, message: str = "") -> None:
        self.serves, self.content, self.message = serves, content, message
        self.calls: list[list[str]] = []

    def __call__(self, command: list[str], **_: object) -> SimpleNamespace:
        self.calls.append(command)
        if self.serves:
            (Path(command[command.index("--dest") + 1]) / self.serves).write_bytes(self.content)
        return SimpleNamespace(returncode=0 if self.serves else 1, stderr=self.message)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "downloads"


def use(monkeypatch: pytest.MonkeyPatch, pip: Pip) -> Pip:
    monkeypatch.setattr(subprocess, "run", pip)
    return pip


def test_a_wheel_is_fetched_once_and_then_cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = use(monkeypatch, Pip("p-1.0-py3-none-any.whl"))
    assert fetch_wheel(pin()) == fetch_wheel(pin()) == cache / "p-1.0-py3-none-any.whl"
    assert len(pip.calls) == 1 and (cache / "p-1.0-py3-none-any.whl").read_bytes() == CONTENT
    assert [path.name for path in cache.iterdir()] == ["p-1.0-py3-none-any.whl"]


@pytest.mark.parametrize("file", ["p-1.0-py3-none-any.whl", PLATFORM])
def test_pip_is_asked_for_one_file_whatever_this_machine_is(
    cache: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    command = use(monkeypatch, Pip(file))
    fetch_wheel(pin(file))
    asked = command.calls[0]
    assert asked[:5] == [sys.executable, "-P", "-m", "pip", "download"] and asked[-1] == "p==1.0"
    assert {"--no-deps", "--only-binary=:all:"} <= set(asked)
    assert asked[asked.index("--python-version") + 1] == "3.11" and asked[asked.index("--abi") + 1] == "cp311"
    platforms = [asked[place + 1] for place, word in enumerate(asked) if word == "--platform"]
    expected = (
        ["manylinux2014_x86_64", "manylinux_2_28_x86_64"] if file == PLATFORM else ["manylinux2014_x86_64"]
    )
    assert platforms == expected
    assert not any("index" in word for word in asked)


def test_a_damaged_cached_file_is_fetched_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir(parents=True)
    (cache / "p-1.0-py3-none-any.whl").write_bytes(b"half")
    use(monkeypatch, Pip("p-1.0-py3-none-any.whl"))
    assert fetch_wheel(pin()).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("pip", "message"),
    [
        (
            Pip(None, message="WARNING: x\nERROR: No matching distribution found\n"),
            "ERROR: No matching.*by? ?.*run again",
        ),
        (Pip(None, message="/usr/bin/python: No module named pip"), "No module named pip"),
        (Pip("p-1.0-py3-none-any.whl", b"other bytes"), "SHA-256 .* not the pinned"),
        (Pip("p-1.0-py2-none-any.whl"), "served p-1.0-py2-none-any.whl"),
    ],
)
def test_what_cannot_be_fetched_is_one_sentence_and_leaves_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch, pip: Pip, message: str
) -> None:
    use(monkeypatch, pip)
    with pytest.raises(UserError, match=message):
        fetch_wheel(pin())
    assert not list(cache.iterdir())


@pytest.mark.parametrize(
    "file", ["../p-1.0-py3-none-any.whl", "p-1.0.tar.gz", "/p-1.0-py3-none-any.whl", ".whl"]
)
def test_a_pin_names_a_wheel_and_no_path(file: str) -> None:
    with pytest.raises(ValueError, match="file"):
        pin(file)


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AIRLAB_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "airlab"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "airlab"
    monkeypatch.setenv("AIRLAB_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
