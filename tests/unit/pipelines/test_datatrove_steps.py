"""Scoring through datatrove: the number of workers changes no byte, and a death costs a shard."""

import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.stages.measure_losses import MeasureLosses
from airlab.stages.shard_notes import read_notes
from airlab.store.files import Files
from airlab.store.plan import Plan
from airlab.store.store import Store
from tests.resume.steps_worker import stage as steps_stage
from tests.unit.cli.conftest import text, write_jsonl
from tests.unit.cli.model_folders import random_folder
from tests.unit.scoring.made_stage import scoring_stage

pytest.importorskip("datatrove")

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor, SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep

from airlab.pipelines import shards as module
from airlab.pipelines.documents import ScoreDocuments
from airlab.pipelines.shards import MeasureShards

MACHINE = Machine(documents_per_shard=256)
COUNT = 1100  # five shards
SHORT = (3, 700)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> MeasureLosses:
    return scoring_stage(tmp_path_factory.mktemp("given"), COUNT, SHORT)


@pytest.fixture(scope="module")
def alone(stage: MeasureLosses, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of the stage as it runs by itself."""
    store = Store(tmp_path_factory.mktemp("alone"))
    Plan(store, [stage]).run(MACHINE)
    return store.folder(stage)


@pytest.fixture
def store(stage: MeasureLosses, tmp_path: Path) -> Store:
    """A store with the corpus, and no losses."""
    store = Store(tmp_path / "store")
    Plan(store, [stage.corpus]).run(MACHINE)
    return store


def run(step: PipelineStep, logs: Path, *, tasks: int, workers: int) -> None:
    LocalPipelineExecutor([step], tasks, workers, str(logs)).run()


def shards(store: Store, stage: MeasureLosses) -> dict[str, int]:
    """Saved shards of losses, and when each was saved."""
    return {path.name: path.stat().st_mtime_ns for path in store.part(stage).glob("shards/losses-*")}


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_number_of_workers_leaves_the_same_bytes(
    stage: MeasureLosses, alone: Path, store: Store, tmp_path: Path, workers: int
) -> None:
    run(MeasureShards(stage, store.root, MACHINE), tmp_path / "logs", tasks=5, workers=workers)
    saved = shards(store, stage)
    assert len(saved) == 5
    Plan(store, [stage]).run(MACHINE)
    for name in ("losses.parquet", "skipped.parquet"):
        assert (store.folder(stage) / name).read_bytes() == (alone / name).read_bytes()
    record, expected = store.record(stage), Store(alone.parents[1]).record(stage)
    assert record is not None and expected is not None and record.notes == expected.notes


def test_tasks_that_are_not_as_many_as_shards_measure_each_once(
    stage: MeasureLosses, alone: Path, store: Store, tmp_path: Path
) -> None:
    step = MeasureShards(stage, store.root, MACHINE)
    run(step, tmp_path / "logs", tasks=2, workers=1)
    assert len(shards(store, stage)) == 5
    run(step, tmp_path / "other logs", tasks=7, workers=1)  # nothing is left for these
    before = shards(store, stage)
    run(step, tmp_path / "more logs", tasks=1, workers=1)
    assert shards(store, stage) == before


def die_at(shard: int, step: MeasureShards) -> None:
    """Run a step, as an executor's worker does, and die in the middle of saving a shard of losses."""
    real, done = module.written, 0

    def written(path: Path) -> Any:
        nonlocal done
        done += path.name.startswith("losses")
        if done == shard and path.name.startswith("losses"):
            path.with_name(".writing-" + path.name).write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        return real(path)

    module.written = written
    step.run()


def test_a_worker_that_is_killed_twice_costs_two_shards_and_no_byte(
    stage: MeasureLosses, alone: Path, store: Store, tmp_path: Path
) -> None:
    """Each death leaves what was saved before it, and the next attempt goes on there."""
    step = MeasureShards(stage, store.root, MACHINE)
    kept: dict[str, int] = {}
    for expected in (1, 2):
        # Not forked: the threads that compute in this process would be missing in the other.
        process = multiprocessing.get_context("spawn").Process(target=die_at, args=(2, step))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        found = shards(store, stage)
        assert len(found) == expected and kept.items() <= found.items()
        kept = found
    run(step, tmp_path / "logs", tasks=1, workers=1)
    found = shards(store, stage)
    assert len(found) == 5 and kept.items() <= found.items()
    Plan(store, [stage]).run(MACHINE)
    assert (store.folder(stage) / "losses.parquet").read_bytes() == (alone / "losses.parquet").read_bytes()


def test_a_task_that_is_never_tried_again_is_done_by_the_stage(
    stage: MeasureLosses, alone: Path, store: Store
) -> None:
    MeasureShards(stage, store.root, MACHINE).run(rank=1, world_size=3)
    assert len(shards(store, stage)) == 2
    Plan(store, [stage]).run(MACHINE)
    assert (store.folder(stage) / "losses.parquet").read_bytes() == (alone / "losses.parquet").read_bytes()


def test_steps_of_traces_are_measured_in_the_same_way(tmp_path: Path) -> None:
    (tmp_path / "heads.json").write_text("[[1, 2]]")
    random_folder(tmp_path / "model")
    traces = [{"prompt": text(n), "response": f"{text(n + 1)}\n\n{text(n + 2)}"} for n in range(300)]
    write_jsonl(tmp_path / "traces.jsonl", traces)
    stage = steps_stage(tmp_path)
    alone, store = Store(tmp_path / "alone"), Store(tmp_path / "store")
    Plan(alone, [stage]).run(MACHINE)
    Plan(store, [stage.traces]).run(MACHINE)
    for rank in range(2):
        MeasureShards(stage, store.root, MACHINE).run(rank=rank, world_size=2)
    assert [note.worker for note in read_notes(store.part(stage))] == ["task 0 of 2", "task 1 of 2"]
    Plan(store, [stage]).run(MACHINE)
    for name in ("losses.parquet", "steps.parquet", "skipped.parquet"):
        assert (store.folder(stage) / name).read_bytes() == (alone.folder(stage) / name).read_bytes()


def test_a_finished_table_is_not_measured_again(stage: MeasureLosses, alone: Path) -> None:
    MeasureShards(stage, alone.parents[1], MACHINE).run()
    assert not Store(alone.parents[1]).part(stage).exists()


def test_workers_refuse_to_start_before_the_corpus(stage: MeasureLosses, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="import_corpus is not there yet"):
        MeasureShards(stage, tmp_path, MACHINE).run()
    assert list(tmp_path.iterdir()) == []


def scored(stage: MeasureLosses, texts: list[str], **machine: int) -> list[Document]:
    assert isinstance(stage.model, Files) and isinstance(stage.heads, Files)
    step = ScoreDocuments(stage.model.path, stage.heads.path, machine=Machine(**machine))
    given = [Document(text=text, id=f"d{n}", metadata={"n": n}) for n, text in enumerate(texts)]
    found = list(step.run(iter(given)))
    assert [d.id for d in found] == [d.id for d in given] and [d.metadata["n"] for d in found] == [
        *range(len(texts))
    ]
    return found


def test_documents_in_somebodys_pipeline_get_the_same_numbers(stage: MeasureLosses, alone: Path) -> None:
    source = pq.read_table(Store(alone.parents[1]).folder(stage.corpus) / "documents.parquet")
    losses = pq.read_table(alone / "losses.parquet").to_pylist()
    found = scored(stage, source["text"].to_pylist()[:300], documents_per_shard=256)
    kept = [document.metadata for document in found if document.metadata["n_tokens"]]
    assert len(kept) == 299 and found[3].metadata == {
        "n": 3, "n_tokens": 0, "loss_base": None, "loss_ref": None, "entropy": None,
        "attention_influence": None,
    }  # fmt: skip
    for row, told in zip(losses, kept, strict=False):
        assert told["n_tokens"] == row["n_tokens"]
        base, reference = (row[f"loss_sum_{kind}"] for kind in ("base", "ref"))
        np.testing.assert_allclose(told["attention_influence"], (reference - base) / base, rtol=1e-4)
        np.testing.assert_allclose(told["loss_base"] * told["n_tokens"], base, rtol=1e-6)
        np.testing.assert_allclose(told["entropy"] * told["n_tokens"], row["entropy_sum_base"], rtol=1e-6)


def test_a_task_without_documents_loads_no_model(
    stage: MeasureLosses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airlab.pipelines.texts.load_masked", None)
    assert scored(stage, []) == []


SBATCH = """#!{python}
import os, re, subprocess, sys
script = sys.argv[-1]
last = int(re.search(r"--array=0-(\\d+)", open(script).read())[1])
for task in range(last + 1):
    slurm = {{"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_JOB_ID": "7", "SLURM_NODELIST": "here",
              "SLURM_PROCID": "0", "SLURM_NODEID": "0", "RUN_OFFSET": "0"}}
    subprocess.run(["bash", script], env=os.environ | slurm, check=True, stdout=sys.stderr)
print("Submitted batch job 7")
"""
"""A Slurm that does at once, here, what it is asked for."""


def stand_in_for_slurm(bin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm's commands, as far as datatrove's script asks for them."""
    bin_folder.mkdir()
    launch = f"exec {sys.executable} -m datatrove.tools.launch_pickled_pipeline"
    commands = {
        "sbatch": SBATCH.format(python=sys.executable),
        "srun": '#!/bin/bash\nshift 3\nexec "$@"\n',  # srun -l -n 1 COMMAND
        "scontrol": "#!/bin/bash\necho here\n",
        "merge_stats": "#!/bin/bash\n",
        "launch_pickled_pipeline": f'#!/bin/bash\n{launch} "$@"\n',
    }
    for name, script in commands.items():
        (bin_folder / name).write_text(script)
        (bin_folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")


def test_slurms_executor_leaves_the_same_bytes(
    stage: MeasureLosses, alone: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """datatrove's own script, started by a stand-in for Slurm: steps and stages survive the way there."""
    stand_in_for_slurm(tmp_path / "bin", monkeypatch)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    step = MeasureShards(stage, store.root, MACHINE)
    SlurmPipelineExecutor(
        [step], tasks=1, time="1:00:00", partition="any", logging_dir=str(tmp_path / "logs"),
        slurm_logs_folder=str(tmp_path / "slurm"),
    ).run()  # fmt: skip
    assert len(shards(store, stage)) == 5
    Plan(store, [stage]).run(MACHINE)
    assert (store.folder(stage) / "losses.parquet").read_bytes() == (alone / "losses.parquet").read_bytes()
