"""A command line as users have it: own store, own files, exit code and both streams."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from transformers.utils.logging import disable_progress_bar

from airlab.cli.main import dispatch
from tests.unit.cli.model_folders import random_folder

WORDS = ["river", "stone", "house", "letter", "garden", "window", "morning", "summer", "captain", "village"]


@dataclass(frozen=True)
class Answer:
    """What a command gave back."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The last line on standard error; the lines before it may only say which stage runs."""
        *progress, last = self.err.splitlines()
        told = [line for line in progress if not re.search(_PROGRESS, line)]
        assert told == [], self.err
        return last


_PROGRESS = r"^\[|stages need no work|^[a-z ]+: (.* so far$|[\d,]+(/[\d,]+)? [a-z]+)"
"""Which stage runs, and, where a machine is slow, how far it is."""


Airlab = Callable[..., Answer]


@pytest.fixture
def airlab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Airlab:
    """Run one command in a fresh folder with a store of its own."""
    monkeypatch.setenv("AIRLAB_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("AIRLAB_CACHE", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    disable_progress_bar()  # the environment variable that the command sets is read at the import

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr("sys.argv", ["airlab"])
        capsys.readouterr()
        code = dispatch([str(a) for a in arguments])
        streams = capsys.readouterr()
        return Answer(code, streams.out, streams.err)

    return call


Refused = Callable[..., str]


@pytest.fixture
def refused(airlab: Airlab) -> Refused:
    """Run a command that must refuse; returns the sentence."""

    def call(verb: str, *arguments: object, **settings: object) -> str:
        before = _contents()
        answer = airlab(verb, *arguments, *(f"{k}={v}" for k, v in settings.items()))
        assert answer.code == 2, answer
        assert answer.out == ""
        assert answer.sentence.startswith(f"airlab {verb}: "), answer.err
        assert "Traceback" not in answer.err
        assert len(answer.sentence) < 700, "a sentence, not a dump"
        assert _contents() == before, "something was left behind or changed"
        return answer.sentence

    return call


def _contents() -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(Path().rglob("*")) if p.is_file()}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model's folder."""
    return random_folder(tmp_path_factory.mktemp("models") / "random")


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    """Heads listed by hand."""
    path = tmp_path / "hand.json"
    path.write_text("[[1, 2], [2, 0]]")
    return path


def text(number: int) -> str:
    """A short text that differs from its neighbours."""
    return " ".join(WORDS[(number * k + k * k) % len(WORDS)] for k in range(1, 4 + number % 9)) + "."


def documents(count: int) -> list[dict[str, object]]:
    """Documents with ids in no alphabetical order and domains of two kinds."""
    return [{"id": f"d{(7 * i) % count:03d}", "text": text(i), "domain": "ab"[i % 2]} for i in range(count)]


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
