"""Fine-tuning killed anywhere and started again ends in the same bytes; other data or weights are refused."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airlab.errors import UserError
from airlab.schema.fine_tuning import FineTuning
from airlab.schema.machine import Machine
from airlab.training import loop
from airlab.training.fine_tune import TuningJob, fine_tune
from airlab.training.unfinished import INDEX, RESUME
from tests.unit.training.made_training import MadeScores, built, model_folder, training

BATCH = 2


@pytest.fixture
def root(tmp_path: Path) -> Path:
    model = model_folder(tmp_path / "model")
    for name, scores in (("weighted", MadeScores(uniform=False)), ("plain", None)):
        (tmp_path / name).symlink_to(built(training(model, scores), tmp_path / "store"))
    return tmp_path


def a_job(root: Path, name: str) -> TuningJob:
    (root / name).mkdir()
    return TuningJob(
        model=root / "model",
        data=root / "weighted",
        output=root / name,
        recipe=FineTuning(epochs=2, batch_sequences=BATCH, learning_rate=1e-3),
        seed=0,
        machine=Machine(sequences_per_micro_batch=1),
        checkpoint_every_s=0.0,
    )


def result(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "model.safetensors").read_bytes(), (folder / "curves.jsonl").read_bytes()


def test_run_killed_at_a_random_step_ends_bit_for_bit_like_one_that_was_not(root: Path) -> None:
    whole, killed = a_job(root, "whole"), a_job(root, "killed")
    n_steps = int(str(fine_tune(whole)["n_steps"]))
    (root / "job.json").write_text(killed.model_dump_json())
    # Each update waits a little, so that the kill lands between the first and the last.
    program = (
        "import sys, time; from pathlib import Path\n"
        "from airlab.training import loop, fine_tune\n"
        "rate = loop.learning_rate\n"
        "loop.learning_rate = lambda *a: (time.sleep(0.05), rate(*a))[1]\n"
        "fine_tune.TuningJob.model_validate_json(Path(sys.argv[1]).read_text()).run()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(root / "job.json")])
    wanted = int(np.random.default_rng().integers(2, n_steps - 6))
    written = killed.output / "curves.jsonl"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if written.exists() and len(written.read_bytes().splitlines()) >= wanted:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert (killed.output / RESUME / INDEX).exists() and not (killed.output / "model.safetensors").exists()
    facts = fine_tune(killed)
    assert 0 < int(str(facts["resumed_at_step"])) < n_steps
    assert result(killed.output) == result(whole.output)


def test_checkpoint_of_another_run_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = a_job(root, "stopped")
    write = loop.write_checkpoint

    def write_and_stop(folder: Path, n_steps_done: int, *what: Any) -> None:
        write(folder, n_steps_done, *what)
        if n_steps_done == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "write_checkpoint", write_and_stop)
        fine_tune(job)
    recipe = job.recipe.model_copy(update={"weight_decay": 0.5})
    model = model_folder(root / "other")
    (model / "model.safetensors").write_bytes(
        (root / "model" / "model.safetensors").read_bytes()[:-4] + b"\0" * 4
    )
    for update, what in (
        ({"data": root / "plain"}, "another data"),  # the same tokens, other weights
        ({"seed": 1}, "another seed"),
        ({"recipe": recipe}, "another fine-tuning recipe"),
        ({"model": model}, "another model"),
    ):
        with pytest.raises(UserError, match=what):
            fine_tune(job.model_copy(update=update))
