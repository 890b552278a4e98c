"""How a batch is cut over micro-batches, processes and ZeRO shards changes nothing beyond rounding."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from airlab.errors import UserError
from airlab.randomness import generator
from airlab.schema.machine import Machine
from airlab.schema.training import TargetModel, Training
from airlab.training import loop
from airlab.training.launch import launch
from airlab.training.pretrain import EXPORTS, Job, pretrain
from airlab.training.tokenizer import train_tokenizer
from tests.faults.ledger import FULL

N_STEPS, BATCH, CONTEXT = 50, 6, 16
STOPPED_AFTER = 5


def a_job(root: Path, name: str, machine: Machine) -> Job:
    (root / name).mkdir(exist_ok=True)
    return Job(
        mixture=root / "mixture",
        tokenizer=root / "tokenizer",
        output=root / name,
        model=TargetModel(
            vocabulary=260,
            hidden_size=32,
            layers=2,
            heads=2,
            kv_heads=1,
            intermediate_size=48,
            context=CONTEXT,
            tie_embeddings=True,
        ),
        training=Training(budget_tokens=1, batch_sequences=BATCH, learning_rate=3e-3, warmup_fraction=0.2),
        seed=0,
        machine=machine,
        checkpoint_every_s=0.0,
    )


def curves(folder: Path) -> dict[str, np.ndarray]:
    rows = [json.loads(line) for line in (folder / "curves.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(N_STEPS))
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def assert_same_training(one: Path, other: Path) -> None:
    first, second = curves(one), curves(other)
    assert np.array_equal(first["learning_rate"], second["learning_rate"])
    assert np.array_equal(first["tokens"], second["tokens"])
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=1e-5)
    np.testing.assert_allclose(first["grad_norm"], second["grad_norm"], rtol=1e-3)
    assert first["loss"][-1] < 0.99 * first["loss"][0], "nothing was learned, so nothing was compared"
    weights, others = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, others[name], rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture, a tokenizer, one whole run in `whole` and one stopped in the middle in `stopped`."""
    folder = tmp_path_factory.mktemp("training")
    train_tokenizer(["a few words"], 260).save_pretrained(folder / "tokenizer")
    (folder / "mixture").mkdir()
    tokens = generator(0, "tokens").integers(1, 30, N_STEPS * BATCH * CONTEXT).astype("<u2")
    tokens[::11] = 0
    tokens.tofile(folder / "mixture" / "tokens.bin")
    np.save(folder / "mixture" / "starts.npy", np.arange(0, len(tokens), 11, dtype="<i8"))
    facts = {"n_tokens": len(tokens), "dtype": "<u2", "context": CONTEXT, "sha256": "0" * 64}
    (folder / "mixture" / "mixture.json").write_text(json.dumps(facts))
    write = loop.write_checkpoint

    def write_and_keep(path: Path, n_steps_done: int, *what: Any) -> None:
        write(path, n_steps_done, *what)
        if n_steps_done == STOPPED_AFTER:
            shutil.copytree(path.parent, folder / "stopped")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "write_checkpoint", write_and_keep)
        pretrain(a_job(folder, "whole", Machine(sequences_per_micro_batch=BATCH)))
    return folder


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_micro_batches_do_not_change_the_training(root: Path, size: int) -> None:
    job = a_job(root, f"micro-{size}", Machine(sequences_per_micro_batch=size))
    pretrain(job)
    assert_same_training(root / "whole", job.output)


ALONE = [{}, *({"deepspeed_stage": stage} for stage in (0, 1, 2, 3))]
TOGETHER = [
    {"deepspeed_stage": 2, "offload": "optimizer"},
    {"deepspeed_stage": 3, "offload": "all", "recompute": True},
]


@pytest.mark.parametrize("settings", [*ALONE, *TOGETHER], ids=str)
@pytest.mark.parametrize("resumes", [False, True])
def test_two_processes_train_like_one(
    root: Path, settings: dict[str, Any], resumes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if resumes and settings in ALONE and not FULL:
        pytest.skip("every stage goes on from one process' checkpoint; AIRLAB_FAULTS=full")
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    machine = Machine(sequences_per_micro_batch=2, processes=2, **settings)
    job = a_job(root, f"{settings} {resumes}", machine)
    if resumes:  # go on from a checkpoint that one process without DeepSpeed wrote
        shutil.copytree(root / "stopped", job.output, dirs_exist_ok=True)
    facts = launch(job)
    assert facts["resumed_at_step"] == (STOPPED_AFTER if resumes else 0)
    assert_same_training(root / "whole", job.output)


def test_batch_that_does_not_split_over_the_processes_is_refused(root: Path) -> None:
    with pytest.raises(UserError, match="6 sequences does not split over 4"):
        launch(a_job(root, "four", Machine(processes=4)))


def test_fewer_processes_than_asked_for_are_noticed(root: Path) -> None:
    with pytest.raises(RuntimeError, match="1 training processes run, 2 were asked for"):
        pretrain(a_job(root, "alone", Machine(processes=2)))


def test_two_processes_keep_the_models_that_one_keeps(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    one, two = (
        a_job(root, f"keeping-{machine.processes}", machine).model_copy(update={"halvings": 2})
        for machine in (
            Machine(sequences_per_micro_batch=BATCH),
            Machine(sequences_per_micro_batch=3, processes=2, deepspeed_stage=2),
        )
    )
    pretrain(one)
    launch(two)
    folders = sorted(path.name for path in (one.output / EXPORTS).iterdir())
    assert folders == sorted(path.name for path in (two.output / EXPORTS).iterdir())
    assert [int(name) for name in folders] == [0, 12, 25, 50]
    for name in folders:
        first, second = (load_file(job.output / EXPORTS / name / "model.safetensors") for job in (one, two))
        assert first.keys() == second.keys()
        for weight in first:
            torch.testing.assert_close(first[weight], second[weight], rtol=1e-3, atol=1e-5)
