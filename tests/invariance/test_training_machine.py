"""How a batch is cut over micro-batches, processes and ZeRO shards changes nothing beyond rounding."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from airlab.errors import UserError
from airlab.evaluation.client import evaluate
from airlab.evaluation.records import read_records
from airlab.evaluation.tasks.build import build_tasks
from airlab.evaluation.tasks.files import write_tasks
from airlab.evaluation.tasks.items import Document
from airlab.randomness import generator
from airlab.schema.evaluation import BitsPerByte, TaskSpec
from airlab.schema.machine import Machine
from airlab.schema.training import TargetModel, Training
from airlab.training import loop
from airlab.training.launch import launch
from airlab.training.pretrain import EXPORTS, Job, pretrain
from airlab.training.tokenizer import train_tokenizer
from tests.faults.ledger import FULL

ROOT = Path(__file__).parents[2]
AT_LENGTH = pytest.mark.skipif(not FULL, reason="more processes that import torch; AIRLAB_FAULTS=full")
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


WAYS: dict[str, dict[str, Any]] = {
    "data parallel": {},
    **{f"ZeRO {stage}": {"deepspeed_stage": stage} for stage in (0, 1, 2, 3)},
    "ZeRO 1, offloaded": {"deepspeed_stage": 1, "offload": "optimizer"},
    "ZeRO 2, offloaded, recomputed": {"deepspeed_stage": 2, "offload": "optimizer", "recompute": True},
    "ZeRO 3, offloaded, recomputed": {"deepspeed_stage": 3, "offload": "all", "recompute": True},
}

MOVES = [
    "data parallel",
    "ZeRO 2, offloaded, recomputed",
    "ZeRO 0",
    "ZeRO 1",
    "ZeRO 3, offloaded, recomputed",
]
"""Ways in which two processes go on, one after another, from what three left."""


def on(processes: int, way: str) -> Machine:
    return Machine(sequences_per_micro_batch=2, processes=processes, **WAYS[way])


def trained_in_turn(root: Path, processes: int, jobs: list[tuple[Job, int | None]]) -> list[Any]:
    """Train jobs in the same processes, each up to its end or stopped after so many updates; their facts."""
    folder = root / f"turns-{processes}"
    folder.mkdir()
    given = [
        {
            "job": {**job.model_dump(mode="json"), "checkpoint_every_s": None if stop is None else 0.0},
            "stop": stop,
        }
        for job, stop in jobs
    ]
    (folder / "jobs.json").write_text(json.dumps(given))
    environment = {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    worker = ["-m", "tests.invariance.trains_in_turn", str(folder)]
    subprocess.run(
        [*torchrun, "--nproc-per-node", str(processes), *worker],
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    facts: list[Any] = json.loads((folder / "facts.json").read_text())
    return facts


@pytest.fixture(scope="module")
def trained(root: Path) -> Path:
    """Every way whole and in two pieces, and `moved`, which changes its way and its number of processes."""
    moved = a_job(root, "moved", on(3, "ZeRO 3"))
    shutil.copytree(root / "stopped", moved.output, dirs_exist_ok=True)
    three = [(a_job(root, f"three, {way}", on(3, way)), None) for way in ("data parallel", "ZeRO 2")]
    facts = trained_in_turn(root, 3, [*three, (moved, 10)])
    assert [found and found["resumed_at_step"] for found in facts] == [0, 0, None]

    jobs: list[tuple[Job, int | None]] = []
    for way in WAYS:
        whole, pieces = (a_job(root, name, on(2, way)) for name in (way, f"{way}, in pieces"))
        jobs += [(whole, None), (pieces, N_STEPS // 2), (pieces, None)]
    for number, way in enumerate(MOVES):
        jobs.append((moved.model_copy(update={"machine": on(2, way)}), 15 + 5 * number))
    facts = trained_in_turn(root, 2, jobs)
    steps = [found and found["resumed_at_step"] for found in facts]
    assert steps == [0, None, N_STEPS // 2] * len(WAYS) + [None] * len(MOVES)
    alone = moved.model_copy(update={"machine": Machine()})
    assert pretrain(alone)["resumed_at_step"] == 15 + 5 * (len(MOVES) - 1)
    return root


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_train_like_one(trained: Path, way: str) -> None:
    assert_same_training(trained / "whole", trained / way)


@pytest.mark.parametrize("way", ["data parallel", "ZeRO 2"])
def test_three_processes_train_like_one(trained: Path, way: str) -> None:
    assert_same_training(trained / "whole", trained / f"three, {way}")


@pytest.mark.parametrize("way", WAYS)
def test_two_halves_are_bit_for_bit_the_whole(trained: Path, way: str) -> None:
    for name in ("model.safetensors", "curves.jsonl"):
        assert (trained / way / name).read_bytes() == (trained / f"{way}, in pieces" / name).read_bytes()


def test_a_run_goes_on_over_any_number_of_processes_and_any_stage(trained: Path) -> None:
    """One process, three under ZeRO 3, two in every other way, and one again."""
    assert_same_training(trained / "whole", trained / "moved")


def test_what_every_stage_leaves_is_loaded_and_evaluated_alike(trained: Path, tmp_path: Path) -> None:
    texts = ["a few words", "words a few", "few a words", "a word", "wordsworth", "few words"]
    documents = [Document(f"d{i}", "prose", "made", text) for i, text in enumerate(texts)]
    spec = TaskSpec(
        minimum_items=6,
        tasks=(BitsPerByte(items=6, domains=("prose",), max_bytes=CONTEXT - 4, min_bytes=4),),
    )
    (tmp_path / "tasks").mkdir()
    write_tasks(tmp_path / "tasks", build_tasks(documents, spec, 0))
    found = {}
    for name in ("whole", *WAYS, "moved"):
        records = tmp_path / f"{name}.parquet"
        evaluate(trained / name, tmp_path / "tasks", records, batch_size=6, device="cpu", seed=0)
        found[name] = np.array([record.value for record in read_records(records)])
    assert len(found["whole"]) == 6 and found["whole"].std() > 0
    for name, values in found.items():
        np.testing.assert_allclose(values, found["whole"], rtol=1e-4, err_msg=name)


def test_recomputed_layers_train_alike(root: Path) -> None:
    job = a_job(root, "recomputed", Machine(sequences_per_micro_batch=BATCH, recompute=True))
    pretrain(job)
    assert_same_training(root / "whole", job.output)


SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
SLURM_PROCID=1 "$@" <&0 & other=$!
SLURM_PROCID=0 "$@" <&0 && wait $other
"""
SSH = """#!/bin/bash
exec bash -c "$3"
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm and ssh, whose hosts are all this one."""
    for name, text in {
        "srun": SRUN,
        "ssh": SSH,
        "scontrol": "#!/bin/sh\nprintf 'localhost\nlocalhost\n'\n",
    }.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_NODELIST", "localhost,localhost")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "hosts").write_text("localhost slots=1\nlocalhost slots=1\n")


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize("started_by", ["srun", pytest.param("ssh", marks=AT_LENGTH)])
def test_two_hosts_train_like_one(root: Path, tmp_path: Path, started_by: str) -> None:
    machine = Machine(
        sequences_per_micro_batch=3,
        hosts=2,
        hostfile=str(tmp_path / "hosts") if started_by == "ssh" else None,
    )
    job = a_job(root, f"hosts-{started_by}", machine)
    launch(job)
    assert_same_training(root / "whole", job.output)
    assert sorted(path.name for path in job.output.iterdir()) == sorted(
        path.name for path in (root / "whole").iterdir()
    )


LAUNCH = """
import sys; from pathlib import Path
from airlab.training import launch, pretrain
launch.launch(pretrain.Job.model_validate_json(Path(sys.argv[1]).read_text()))
"""


@AT_LENGTH
def test_processes_killed_three_times_at_random_end_bit_for_bit(root: Path, tmp_path: Path) -> None:
    """The launching process or one of those that train; the others end, and nothing of them stays."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    draw = np.random.default_rng()
    files = {}
    for name, moments in (("unharmed", []), ("killed", sorted(draw.choice(N_STEPS - 10, 3, replace=False)))):
        job = a_job(root, name, on(2, "ZeRO 2"))
        (tmp_path / name).write_text(job.model_dump_json())
        program = [sys.executable, "-c", LAUNCH, str(tmp_path / name)]
        for moment in moments:
            process = subprocess.Popen(program, env=environment)
            rows = job.output / "curves.jsonl"
            while not rows.exists() or len(rows.read_bytes().splitlines()) <= moment:
                assert process.poll() is None, "it ended before it could be killed"
                time.sleep(0.01)
            below = psutil.Process(process.pid).children(recursive=True)
            training = [one for one in below if "airlab.training.worker" in one.cmdline()]
            assert len(training) == 2
            os.kill(draw.choice([process.pid, *(one.pid for one in training)]), signal.SIGKILL)
            assert process.wait(timeout=120) != 0
            assert psutil.wait_procs(below, timeout=120)[1] == []
            assert not (job.output / "model.safetensors").exists()
        subprocess.run(program, env=environment, check=True)
        files[name] = [(job.output / file).read_bytes() for file in ("model.safetensors", "curves.jsonl")]
        assert len(list(job.output.iterdir())) == len(list((root / "whole").iterdir()))
    assert files["unharmed"] == files["killed"]


@pytest.mark.usefixtures("programs")
@AT_LENGTH
def test_a_mistake_that_only_the_processes_find_is_a_sentence(root: Path) -> None:
    """Norms have two elements. Nothing is left that would end up in an artifact."""
    job = a_job(root, "small", Machine(processes=3, deepspeed_stage=3))
    assert isinstance(job.model, TargetModel)
    job = job.model_copy(update={"model": job.model.model_copy(update={"hidden_size": 2, "heads": 1})})
    with pytest.raises(UserError, match="too small for ZeRO stage 3 on 3 processes"):
        launch(job)
    assert not list(job.output.iterdir())


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
