"""A command in a folder of somebody else's: none of the processes it starts imports a module from there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from airlab.cli import jobs
from airlab.errors import UserError
from airlab.evaluation.client import EvaluationError, Worker
from airlab.schema.text import WheelPin
from airlab.schema.traces import Rendering
from airlab.text import template_process, wheels
from airlab.text.rendering import render
from airlab.text.traces import Message, Trace
from airlab.training import launch
from tests.faults.ledger import FULL, count
from tests.resume.test_training_kill import a_job
from tests.unit.text.made_chat import chat_tokenizer

PLANTED = (
    "airlab",
    "json",
    "jinja2",
    "lm_eval",
    "pip",
    "psutil",
    "random",
    "torch",
    "transformers",
    "typing",
)


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a planted module would say that it was imported."""
    folder, marks = tmp_path / "downloads", tmp_path / "marks"
    folder.mkdir()
    marks.mkdir()
    for name in PLANTED:
        (folder / f"{name}.py").write_text(f"open({str(marks / name)!r}, 'w').close()\n")
    monkeypatch.chdir(folder)
    return marks


def evaluate(_: Path) -> None:
    worker = Worker(offline=True)
    with pytest.raises(EvaluationError, match="KeyError"):  # it runs, and nothing was asked of it
        worker.ask({})
    worker.close()


def show_a_chat(_: Path) -> None:
    template_process._process.end()
    trace = Trace("t", "", (Message("user", "1 + 1?"),), "2")
    assert "1 + 1?" in render(chat_tokenizer(), trace, Rendering()).text


def run_a_job(tmp_path: Path) -> None:
    call = "airlab.cli.answer:refuse"  # anything that is quick
    assert jobs._run(jobs.Job("one", "", "run", call, ("run", "said"), tmp_path / "job")) == 0


def fetch_a_wheel(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRLAB_CACHE", str(tmp_path / "cache"))
        patch.setenv("PIP_NO_INDEX", "1")
        with pytest.raises(UserError, match="No matching distribution"):
            wheels.fetch_wheel(
                WheelPin(name="none", version="1", file="none-1-py3-none-any.whl", sha256="0" * 64)
            )


def train(tmp_path: Path) -> None:
    job = a_job(tmp_path, "one")
    machine = job.machine.model_copy(update={"processes": 2, "sequences_per_micro_batch": 1})
    launch.launch(job.model_copy(update={"machine": machine}))
    assert (job.output / "model.safetensors").exists()


STARTED: dict[str, Callable[[Path], None]] = {
    "evaluation": evaluate,
    "chats": show_a_chat,
    "a job": run_a_job,
    "pip": fetch_a_wheel,
}
if FULL:  # three processes import torch
    STARTED["training"] = train


@pytest.mark.parametrize("case", STARTED)
def test_nothing_is_imported_from_the_current_folder(case: str, marks: Path, tmp_path: Path) -> None:
    STARTED[case](tmp_path)
    assert [mark.name for mark in marks.iterdir()] == []
    count("hostile", "modules in the folder that a command is run in: never imported", inputs=len(PLANTED))
