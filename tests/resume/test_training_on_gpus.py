"""Training on GPUs: killed, resumed on another number of them, and what a machine may change about memory.

GPUs add in another order every time, so losses agree to rounding and not to the last bit. What must be equal
is which sequence comes when: every sequence of the mixture here has its own difficulty, between an alphabet
of two tokens and one of all bytes, so that a loss tells which sequences an update saw.
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from airlab.randomness import generator
from airlab.schema.machine import Machine
from airlab.schema.training import TargetModel, Training
from airlab.training.launch import launch
from airlab.training.pretrain import Job
from airlab.training.tokenizer import train_tokenizer
from airlab.training.unfinished import INDEX, RESUME

N_GPUS = torch.cuda.device_count()
pytestmark = pytest.mark.skipif(N_GPUS < 1, reason="needs a GPU")
TWO = pytest.mark.skipif(N_GPUS < 2, reason="needs two GPUs")

N_STEPS, BATCH, CONTEXT, VOCABULARY = 40, 8, 256, 260
WAYS: dict[str, dict[str, Any]] = {
    "recomputed": {"recompute": True},
    "ZeRO 2, optimizer on the host": {"deepspeed_stage": 2, "offload": "optimizer"},
    "ZeRO 3, all on the host, recomputed": {"deepspeed_stage": 3, "offload": "all", "recompute": True},
}
PROGRAM = (
    "import sys; from pathlib import Path\n"
    "from airlab.training.launch import launch\n"
    "from airlab.training.pretrain import Job\n"
    "launch(Job.model_validate_json(Path(sys.argv[1]).read_text()))\n"
)


def a_job(root: Path, name: str, **machine: Any) -> Job:
    (root / name).mkdir(exist_ok=True)
    given: dict[str, Any] = {"device": "cuda", "sequences_per_micro_batch": 2, "trackers": []}
    return Job(
        mixture=root / "mixture",
        tokenizer=root / "tokenizer",
        output=root / name,
        model=TargetModel(
            vocabulary=VOCABULARY,
            hidden_size=192,
            layers=3,
            heads=3,
            kv_heads=1,
            intermediate_size=256,
            context=CONTEXT,
            tie_embeddings=True,
        ),
        training=Training(
            budget_tokens=1,
            batch_sequences=BATCH,
            learning_rate=1e-3,
            warmup_fraction=0.2,
            precision="bfloat16",
        ),
        seed=0,
        machine=Machine(**(given | machine)),
        checkpoint_every_s=0.0,
    )


def curves(job: Job) -> dict[str, np.ndarray]:
    lines = (job.output / "curves.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == list(range(N_STEPS))
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def assert_same_data(one: Job, other: Job) -> None:
    first, second = curves(one), curves(other)
    for name in ("learning_rate", "tokens"):
        assert np.array_equal(first[name], second[name])
    distance = np.abs(first["loss"] - second["loss"])
    shifted = np.abs(first["loss"][1:] - second["loss"][:-1])
    assert np.median(shifted) > 0.05, "updates are alike, so nothing was compared"
    assert distance.max() < 0.02, distance


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture, a tokenizer, and a whole run on one GPU in `whole`."""
    folder = tmp_path_factory.mktemp("gpus")
    train_tokenizer(["a few words"], VOCABULARY).save_pretrained(folder / "tokenizer")
    (folder / "mixture").mkdir()
    draw = generator(0, "tokens")
    alphabets = np.exp(draw.uniform(np.log(2), np.log(VOCABULARY - 1), N_STEPS * BATCH)).astype(int)
    tokens = np.concatenate([draw.integers(1, 1 + n, CONTEXT) for n in alphabets]).astype("<u2")
    tokens[:: CONTEXT // 4] = 0
    tokens.tofile(folder / "mixture" / "tokens.bin")
    np.save(folder / "mixture" / "starts.npy", np.arange(0, len(tokens), CONTEXT // 4, dtype="<i8"))
    facts = {"n_tokens": len(tokens), "dtype": "<u2", "context": CONTEXT, "sha256": "0" * 64}
    (folder / "mixture" / "mixture.json").write_text(json.dumps(facts))
    launch(a_job(folder, "whole"))
    return folder


@pytest.fixture
def whole(root: Path) -> Job:
    """The run that nothing happened to."""
    return a_job(root, "whole")


def killed(job: Job) -> None:
    """Start the job and end all its processes at a random moment between two updates."""
    given = job.output.with_suffix(".json")
    given.write_text(job.model_dump_json())
    wanted = int(np.random.default_rng().integers(5, N_STEPS - 15))
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(given)])
    written, deadline = job.output / "curves.jsonl", time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        if written.exists() and len(written.read_bytes().splitlines()) >= wanted:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    time.sleep(3)  # its processes end when they notice
    assert (job.output / RESUME / INDEX).exists() and not (job.output / "model.safetensors").exists()


def test_killed_on_one_gpu_goes_on_with_the_same_data(root: Path, whole: Job) -> None:
    job = a_job(root, "killed")
    killed(job)
    assert 0 < int(str(launch(job)["resumed_at_step"])) < N_STEPS
    assert_same_data(job, whole)


@TWO
def test_killed_on_two_gpus_goes_on_on_one(root: Path, whole: Job) -> None:
    job = a_job(root, "moved", processes=2, deepspeed_stage=2)
    killed(job)
    one = Machine(**(job.machine.model_dump() | {"processes": 1, "deepspeed_stage": None}))
    moved = job.model_copy(update={"machine": one})
    assert 0 < int(str(launch(moved)["resumed_at_step"])) < N_STEPS
    assert_same_data(moved, whole)


@pytest.mark.parametrize("way", WAYS)
def test_what_saves_memory_changes_nothing_but_rounding(root: Path, whole: Job, way: str) -> None:
    job = a_job(root, way, **WAYS[way])
    launch(job)
    assert_same_data(job, whole)
