"""A training run killed anywhere and started again ends in the same bytes; another mixture is refused."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from airlab.errors import UserError
from airlab.randomness import generator
from airlab.schema.machine import Machine
from airlab.schema.training import TargetModel, Training
from airlab.training import loop
from airlab.training.checkpoint import RESUME
from airlab.training.pretrain import Job, pretrain
from airlab.training.tokenizer import train_tokenizer

N_STEPS, BATCH, CONTEXT = 40, 2, 16


def a_job(root: Path, name: str, checkpoint_every_s: float = 0.0) -> Job:
    if not (root / "tokenizer").exists():
        train_tokenizer(["a few words"], 260).save_pretrained(root / "tokenizer")
        a_mixture(root / "mixture", "0" * 64)
    (root / name).mkdir()
    return Job(
        mixture=root / "mixture",
        tokenizer=root / "tokenizer",
        output=root / name,
        model=TargetModel(
            vocabulary=260,
            hidden_size=16,
            layers=1,
            heads=2,
            kv_heads=1,
            intermediate_size=32,
            context=CONTEXT,
            tie_embeddings=False,
        ),
        training=Training(budget_tokens=1, batch_sequences=BATCH, learning_rate=1e-2, warmup_fraction=0.1),
        seed=0,
        machine=Machine(sequences_per_micro_batch=BATCH),
        checkpoint_every_s=checkpoint_every_s,
    )


def a_mixture(folder: Path, sha256: str) -> None:
    folder.mkdir()
    tokens = generator(0, "tokens").integers(1, 260, N_STEPS * BATCH * CONTEXT).astype("<u2")
    tokens[::11] = 0
    tokens.tofile(folder / "tokens.bin")
    np.save(folder / "starts.npy", np.arange(0, len(tokens), 11, dtype="<i8"))
    facts = {"n_tokens": len(tokens), "dtype": "<u2", "context": CONTEXT, "sha256": sha256}
    (folder / "mixture.json").write_text(json.dumps(facts))


def result(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "model.safetensors").read_bytes(), (folder / "curves.jsonl").read_bytes()


def stopped_after(job: Job, n_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in this process until the checkpoint after `n_steps`, and stop there."""
    write = loop.write_checkpoint

    def write_and_stop(path: Path, checkpoint: loop.Checkpoint) -> None:
        write(path, checkpoint)
        if checkpoint.n_steps_done == n_steps:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "write_checkpoint", write_and_stop)
        pretrain(job)


def test_run_killed_at_a_random_step_ends_bit_for_bit_like_one_that_was_not(tmp_path: Path) -> None:
    whole, killed = a_job(tmp_path, "whole"), a_job(tmp_path, "killed")
    pretrain(whole)
    (tmp_path / "job.json").write_text(killed.model_dump_json())
    # Each update waits a little, so that the kill lands between the first and the last.
    program = (
        "import sys, time; from pathlib import Path\n"
        "from airlab.training import loop, pretrain\n"
        "rate = loop.learning_rate\n"
        "loop.learning_rate = lambda *a: (time.sleep(0.05), rate(*a))[1]\n"
        "pretrain.pretrain(pretrain.Job.model_validate_json(Path(sys.argv[1]).read_text()))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "job.json")])
    wanted = int(np.random.default_rng().integers(2, N_STEPS - 10))
    curves = killed.output / "curves.jsonl"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if curves.exists() and len(curves.read_bytes().splitlines()) >= wanted:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert (killed.output / RESUME).exists() and not (killed.output / "model.safetensors").exists()
    facts = pretrain(killed)
    assert 0 < int(str(facts["resumed_at_step"])) < N_STEPS
    assert result(killed.output) == result(whole.output)


def test_lines_written_after_the_last_checkpoint_are_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = a_job(tmp_path, "whole"), a_job(tmp_path, "stopped")
    pretrain(whole)
    stopped_after(stopped, 7, monkeypatch)
    with (stopped.output / "curves.jsonl").open("a") as curves:
        curves.write('{"step": 7, "torn')
    pretrain(stopped)
    assert result(stopped.output) == result(whole.output)


def test_killed_twice_is_still_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, stopped = a_job(tmp_path, "whole"), a_job(tmp_path, "stopped")
    pretrain(whole)
    for n_steps in (3, 29):
        stopped_after(stopped, n_steps, monkeypatch)
    pretrain(stopped)
    assert result(stopped.output) == result(whole.output)


def test_checkpoint_of_another_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = a_job(tmp_path, "stopped")
    stopped_after(job, 5, monkeypatch)
    a_mixture(tmp_path / "other", "1" * 64)
    with pytest.raises(UserError, match="another mixture"):
        pretrain(job.model_copy(update={"mixture": tmp_path / "other"}))
    with pytest.raises(UserError, match="another seed"):
        pretrain(job.model_copy(update={"seed": 1}))
    with pytest.raises(UserError, match="another training"):
        pretrain(job.model_copy(update={"training": job.training.model_copy(update={"beta2": 0.9})}))


def test_write_that_is_cut_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, stopped = a_job(tmp_path, "whole"), a_job(tmp_path, "stopped")
    pretrain(whole)
    stopped_after(stopped, 5, monkeypatch)
    shutil.copy(stopped.output / RESUME, tmp_path / "kept")
    (stopped.output / RESUME).with_suffix(".partial").write_bytes(b"half a checkpoint")
    pretrain(stopped)
    assert result(stopped.output) == result(whole.output)
    assert not list(stopped.output.glob("resume*"))
