"""A training run killed anywhere and started again ends in the same bytes; another mixture is refused."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from airlab.errors import UserError
from airlab.randomness import generator
from airlab.schema.machine import Machine
from airlab.schema.training import TargetModel, Training
from airlab.training import checkpoint, loop
from airlab.training.checkpoint import read_checkpoint
from airlab.training.pretrain import Job, pretrain
from airlab.training.tokenizer import train_tokenizer
from airlab.training.unfinished import INDEX, RESUME
from airlab.training.worker import run_job

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

    def write_and_stop(folder: Path, n_steps_done: int, *what: Any) -> None:
        write(folder, n_steps_done, *what)
        if n_steps_done == n_steps:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "write_checkpoint", write_and_stop)
        pretrain(job)


def test_run_killed_three_times_at_random_ends_bit_for_bit_like_one_that_was_not(tmp_path: Path) -> None:
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
    curves = killed.output / "curves.jsonl"
    for wanted in sorted(np.random.default_rng().choice(np.arange(2, N_STEPS - 8), 3, replace=False)):
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "job.json")])
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if curves.exists() and len(curves.read_bytes().splitlines()) >= wanted:
                break
            time.sleep(0.005)
        time.sleep(0.05 * np.random.default_rng().random())
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
        assert (killed.output / RESUME / INDEX).exists() and not (
            killed.output / "model.safetensors"
        ).exists()
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
    kept = {path.name: path.read_bytes() for path in (stopped.output / RESUME).iterdir()}
    save, written = checkpoint.save_file, []

    def save_half(tensors: object, path: Path, **more: object) -> None:
        save(tensors, path, **more)
        written.append(path.name)
        if len(written) == 3:
            path.write_bytes(path.read_bytes()[:100])
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "FILE_BYTES", 1000)
        patch.setattr(checkpoint, "save_file", save_half)
        pretrain(stopped)
    assert len(written) == 3 and not set(written) & set(kept)
    assert {name: (stopped.output / RESUME / name).read_bytes() for name in kept} == kept
    (stopped.output / RESUME / "index.json.partial").write_bytes(b"half an index")
    assert pretrain(stopped)["resumed_at_step"] == 5
    assert result(stopped.output) == result(whole.output)
    assert not list(stopped.output.glob("resume*"))


def test_checkpoint_before_stays_until_the_next_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at after every flush: what the index names is all there, and nothing else stays in the end."""
    job, flush, seen = a_job(tmp_path, "run"), checkpoint._flush, []

    def flush_and_look(path: Path) -> None:
        flush(path)
        if (index := job.output / RESUME / INDEX).exists():
            found = json.loads(index.read_text())
            assert {name for name in found["files"] if not (index.parent / name).exists()} == set()
            seen.append((found["n_steps_done"], len(list(index.parent.iterdir())) > 1 + len(found["files"])))

    monkeypatch.setattr(checkpoint, "FILE_BYTES", 1000)
    monkeypatch.setattr(checkpoint, "_flush", flush_and_look)
    stopped_after(job, 3, monkeypatch)
    assert {n for n, _ in seen} == {1, 2, 3} and {more for _, more in seen} == {True, False}
    index = json.loads((job.output / RESUME / INDEX).read_text())
    assert {path.name for path in (job.output / RESUME).iterdir()} == {INDEX, *index["files"]}
    assert len(index["files"]) > 5, "one file holds everything, so nothing was compared"


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, full = a_job(tmp_path, "whole"), a_job(tmp_path, "full")
    pretrain(whole)
    stopped_after(full, 5, monkeypatch)
    kept = {path.name: path.read_bytes() for path in (full.output / RESUME).iterdir()}

    def refuse(tensors: object, path: Path, **_: object) -> None:
        path.write_bytes(b"what still had room")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch, pytest.raises(SafetensorError):
        patch.setattr(checkpoint, "save_file", refuse)
        pretrain(full)
    assert {name: (full.output / RESUME / name).read_bytes() for name in kept} == kept
    assert pretrain(full)["resumed_at_step"] == 5
    assert result(full.output) == result(whole.output)


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Folders of checkpoints of one run, after 5 and after 6 updates, of several files each."""
    monkeypatch.setattr(checkpoint, "FILE_BYTES", 1000)
    job = a_job(tmp_path, "run")
    stopped_after(job, 5, monkeypatch)
    shutil.copytree(job.output / RESUME, tmp_path / "five")
    stopped_after(job, 6, monkeypatch)
    return tmp_path / "five", job.output / RESUME


def resumed(folder: Path) -> checkpoint.Checkpoint | None:
    identity = json.loads((folder / INDEX).read_text())["identity"]
    return read_checkpoint(folder, identity)


def test_a_checkpoint_that_lost_a_file_is_refused_by_its_name(two: tuple[Path, Path]) -> None:
    _, folder = two
    assert resumed(folder) is not None
    (lost := sorted(folder.glob("*.safetensors"))[2]).unlink()
    with pytest.raises(UserError, match=f"has lost {lost.name}, which its index names; put that file back"):
        resumed(folder)


def test_files_of_two_checkpoints_are_refused(two: tuple[Path, Path]) -> None:
    five, six = two
    theirs, ours = (sorted(folder.glob("*.safetensors"))[2] for folder in (five, six))
    shutil.copy(theirs, ours)  # under the name that the index knows
    with pytest.raises(UserError, match=f"is mixed with another one, of which it has {ours.name}"):
        resumed(six)
    shutil.copy(five / INDEX, six / INDEX)  # the other's index, whose files are not here
    with pytest.raises(UserError, match="has lost 000000005-00000"):
        resumed(six)


def test_too_little_memory_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, short = a_job(tmp_path, "whole"), a_job(tmp_path, "short")
    pretrain(whole)
    stopped_after(short, 5, monkeypatch)
    with monkeypatch.context() as patch, pytest.raises(UserError, match="ran out of memory while training"):
        patch.setattr(loop, "learning_rate", lambda *_: torch.empty(1 << 46))
        run_job(short)
    assert pretrain(short)["resumed_at_step"] == 5
    assert result(short.output) == result(whole.output)


def test_a_checkpoint_of_an_earlier_airlab_is_told(tmp_path: Path) -> None:
    job = a_job(tmp_path, "run")
    (job.output / "resume.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="checkpoint of an earlier airlab"):
        pretrain(job)
