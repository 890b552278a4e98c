"""A training that keeps models on the way, killed anywhere and started again, keeps the same models."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from airlab.training import export
from airlab.training.pretrain import EXPORTS, Job, exported_updates, pretrain
from tests.resume.test_training_kill import N_STEPS, a_job, stopped_after

HALVINGS = 3


def keeping(root: Path, name: str) -> Job:
    return a_job(root, name).model_copy(update={"halvings": HALVINGS})


def kept(job: Job) -> dict[str, bytes]:
    files = (path for path in sorted(job.output.rglob("*")) if path.is_file())
    return {path.relative_to(job.output).as_posix(): path.read_bytes() for path in files}


def cut_while_keeping(job: Job, n_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train until the model after `n_steps` updates is half written, and stop there."""
    save = export.save_file

    def save_half(tensors: object, path: Path, **more: object) -> None:
        if int(Path(path).parent.stem) == n_steps:
            Path(path).write_bytes(b"half a model")
            raise KeyboardInterrupt
        save(tensors, path, **more)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(export, "save_file", save_half)
        pretrain(job)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    job = keeping(tmp_path_factory.mktemp("whole"), "whole")
    pretrain(job)
    found = kept(job)
    folders = {name.split("/")[1] for name in found if name.startswith(EXPORTS)}
    assert sorted(map(int, folders)) == list(exported_updates(N_STEPS, HALVINGS))
    assert len({found[f"{EXPORTS}/{folder}/model.safetensors"] for folder in folders}) == len(folders)
    return found


@pytest.mark.parametrize("stops", [(3,), (5,), (10, 11), (7, 39)])
def test_stopped_between_and_at_kept_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes], stops: tuple[int, ...]
) -> None:
    job = keeping(tmp_path, "stopped")
    for n_steps in stops:
        stopped_after(job, n_steps, monkeypatch)
    pretrain(job)
    assert kept(job) == expected


@pytest.mark.parametrize("n_steps", [0, 10, 40])
def test_cut_while_a_model_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes], n_steps: int
) -> None:
    job = keeping(tmp_path, "cut")
    cut_while_keeping(job, n_steps, monkeypatch)
    assert not (job.output / EXPORTS / f"{n_steps:09d}").exists()
    pretrain(job)
    assert kept(job) == expected


def test_models_kept_after_the_last_checkpoint_are_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes]
) -> None:
    """The run goes on from update 7 while the models of 10 and 20 lie there, from before the kill."""
    job = keeping(tmp_path, "stopped")
    stopped_after(job, 7, monkeypatch)
    for later in (10, 20):
        folder = job.output / EXPORTS / f"{later:09d}"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"of an attempt that was killed")
    pretrain(job)
    assert kept(job) == expected


def test_killed_by_the_system_between_a_kept_model_and_its_checkpoint(
    tmp_path: Path, expected: dict[str, bytes]
) -> None:
    job = keeping(tmp_path, "killed")
    (tmp_path / "job.json").write_text(job.model_dump_json())
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from airlab.training import loop, pretrain\n"
        "write = loop.write_checkpoint\n"
        "def kill(folder, n_steps_done, *what):\n"
        "    if n_steps_done == 20: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(folder, n_steps_done, *what)\n"
        "loop.write_checkpoint = kill\n"
        "pretrain.pretrain(pretrain.Job.model_validate_json(Path(sys.argv[1]).read_text()))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path / "job.json")], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert (job.output / EXPORTS / f"{20:09d}").exists()
    assert pretrain(job)["resumed_at_step"] == 19
    assert kept(job) == expected
