"""A training folder with somebody else's files in it: pickles are never opened, checkpoints are our own."""

import ast
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from airlab.errors import UserError
from airlab.training import launch
from airlab.training.checkpoint import read_checkpoint
from airlab.training.pretrain import pretrain
from airlab.training.unfinished import INDEX, RESUME
from tests.faults.hostile.planted import Evil
from tests.faults.ledger import FULL, count
from tests.resume.test_training_kill import a_job, result, stopped_after

ROOT = Path(__file__).parents[3]
INDEX_KEYS = {"n_steps_done": 3, "identity": {"seed": 1}, "checkpoint": "a", "files": ["a.safetensors"]}


def indexed(folder: Path, **changed: object) -> None:
    (folder / INDEX).write_text(json.dumps({**INDEX_KEYS, **changed}))


def with_file(folder: Path, content: bytes) -> None:
    indexed(folder)
    (folder / "a.safetensors").write_bytes(content)


def pickled(folder: Path) -> None:
    indexed(folder)
    torch.save(Evil(folder.with_name("mark")), folder / "a.safetensors")


def without_weights(folder: Path) -> None:
    indexed(folder)
    save_file({"a": torch.zeros(1)}, folder / "a.safetensors", {"checkpoint": "a"})


BAD = {
    "nothing": lambda folder: (folder / INDEX).write_bytes(b""),
    "a pickle": pickled,
    "an index that is a pickle": lambda folder: torch.save(Evil(folder.with_name("mark")), folder / INDEX),
    "an empty file": lambda folder: with_file(folder, b""),
    "a header without end": lambda folder: with_file(folder, b"\xff" * 64),
    "an index without keys": lambda folder: (folder / INDEX).write_text("{}"),
    "an endless index": lambda folder: (folder / INDEX).write_text("[" * 100_000),
    "an index that is a list": lambda folder: (folder / INDEX).write_text("[1]"),
    "an identity that is a number": lambda folder: indexed(folder, identity=1),
    "files that are a number": lambda folder: indexed(folder, files=1),
    "files that are numbers": lambda folder: indexed(folder, files=[1]),
    "no weights": without_weights,
}


@pytest.mark.parametrize("case", BAD)
def test_a_checkpoint_that_is_not_ours_is_refused(tmp_path: Path, case: str) -> None:
    folder = tmp_path / RESUME
    folder.mkdir()
    BAD[case](folder)
    with pytest.raises(UserError, match="is damaged or none of ours"):
        found = read_checkpoint(folder, {"seed": 1})
        assert found is not None
        found.tensor("weight", "a")
    assert not (tmp_path / "mark").exists()
    count("hostile", "training checkpoints that were made up: refused", inputs=1)


def test_an_index_reaches_no_file_outside_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / RESUME
    folder.mkdir()
    save_file({"a": torch.zeros(1)}, tmp_path / "outside.safetensors", {"checkpoint": "a"})
    for name in ("../outside.safetensors", str(tmp_path / "outside.safetensors")):
        indexed(folder, files=[name])
        with pytest.raises(UserError, match="has lost outside"):
            read_checkpoint(folder, {"seed": 1})


OF_OTHERS = (
    "latest",
    "global_step5/mp_rank_00_model_states.pt",
    "global_step5/zero_pp_rank_0_mp_rank_00_optim_states.pt",
    "model.pt",
    "optimizer.bin",
    "pytorch_model.bin",
    "random_states_0.pkl",
    "scheduler.bin",
)
"""Where DeepSpeed, accelerate and transformers keep what they unpickle."""


def plant(folder: Path, mark: Path) -> None:
    for name in OF_OTHERS:
        (folder / name).parent.mkdir(exist_ok=True)
        torch.save(Evil(mark), folder / name)
    (folder / "latest").write_text("global_step5")


def test_pickles_beside_a_checkpoint_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, planted = a_job(tmp_path, "whole"), a_job(tmp_path, "planted")
    pretrain(whole)
    stopped_after(planted, 5, monkeypatch)
    for folder in (planted.output, planted.output / RESUME):
        plant(folder, tmp_path / "mark")
    pretrain(planted)
    assert result(planted.output) == result(whole.output)
    assert not (tmp_path / "mark").exists()
    count("hostile", "pickles in model and run folders: never opened", inputs=2 * len(OF_OTHERS))


@pytest.mark.skipif(not FULL, reason="DeepSpeed starts; AIRLAB_FAULTS=full")
@pytest.mark.parametrize("stage", [2, 3])
def test_nor_does_deepspeed_open_them(tmp_path: Path, stage: int) -> None:
    job = a_job(tmp_path, "planted")
    for folder in (job.output, job.output / RESUME):
        folder.mkdir(exist_ok=True)
        plant(folder, tmp_path / "mark")
    machine = job.machine.model_copy(update={"deepspeed_stage": stage})
    launch.launch(job.model_copy(update={"machine": machine}))
    assert (job.output / "model.safetensors").exists()
    assert not (tmp_path / "mark").exists()
    count("hostile", "pickles in model and run folders: never opened", inputs=2 * len(OF_OTHERS))


FORBIDDEN = {"load_checkpoint", "load_state", "save_checkpoint", "save_state", "load_universal_checkpoint"}


def test_deepspeed_and_accelerate_never_read_or_write_their_own_pickled_checkpoints() -> None:
    calls = [
        (path.name, node.func.attr)
        for path in sorted((ROOT / "airlab").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    assert len(calls) > 1000
    assert [call for call in calls if call[1] in FORBIDDEN] == []
    count("hostile", "pickles in model and run folders: never opened", inputs=1)
