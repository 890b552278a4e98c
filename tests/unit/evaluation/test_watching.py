"""How far an evaluation is comes out of its own process, is counted exactly, and changes nothing."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from airlab import progress as shown
from airlab.evaluation import client
from airlab.evaluation.tasks.build import build_tasks
from airlab.evaluation.tasks.files import write_tasks
from airlab.evaluation.tasks.items import Document
from airlab.schema.evaluation import BitsPerByte, Choices, KeyRetrieval, TaskSpec

SPEC = TaskSpec(
    minimum_items=5,
    tasks=(
        BitsPerByte(items=6, domains=("prose",), max_bytes=100, min_bytes=50),
        KeyRetrieval(items=5, pairs=2),
        Choices(kind="title", items=6, domains=("prose",), choice_bytes=40),
    ),
)


def test_every_answer_is_counted_once(
    documents: list[Document], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = pytest.importorskip("airlab.evaluation.harness")
    import datasets

    from airlab.evaluation import watching

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(watching, "_TELL_EVERY_S", 0.0)
    built = build_tasks(documents, SPEC, 0)
    (tmp_path / "tasks").mkdir()
    write_tasks(tmp_path / "tasks", built)
    told: list[dict[str, Any]] = []
    how: dict[str, Any] = {"batch_size": 4, "device": "cpu", "seed": 0, "mask": None}
    records = harness.evaluate_local(checkpoint, tmp_path / "tasks", **how, tell=told.append)
    last = {message["phase"]: message for message in told}
    assert {message["unit"] for message in last.values()} == {"answers", "windows"}
    for message in last.values():
        if message["unit"] == "answers":
            assert message["done"] == message["total"] > 0
        else:
            assert message["done"] == 6 and message["total"] is None
    assert len(told) > len(last), "it is told on the way"
    assert records


class Clock:
    """A clock that a message moves on by ten seconds."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


class Lines(io.StringIO):
    """What a process writes, a line every ten seconds."""

    def __init__(self, messages: list[dict[str, Any]], clock: Clock) -> None:
        super().__init__("".join(json.dumps(message) + "\n" for message in messages))
        self.clock = clock

    def __next__(self) -> str:
        self.clock.now += 10
        return super().__next__()


def message(phase: int, done: int, total: int | None) -> dict[str, Any]:
    return {"phase": phase, "label": "evaluating", "unit": "answers", "done": done, "total": total}


def test_what_comes_before_a_reply_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    monkeypatch.setattr(shown, "time", clock)
    lines = [message(1, 10, 40), message(1, 20, 40), message(1, 30, 40), message(2, 5, None), {"ok": {}}]
    assert client._reply(Lines(lines, clock)) == {"ok": {}}
    assert capsys.readouterr().err.splitlines() == [
        "evaluating: 30/40 answers (75%), 1/s, 10 s left",
        "evaluating: 30 answers in 30 s (1/s)",
        "evaluating: 5 answers in 10 s (0.5/s)",
    ]


def test_a_process_that_ends_without_a_reply_has_none() -> None:
    assert client._reply(Lines([message(1, 10, 40)], Clock())) == {}
