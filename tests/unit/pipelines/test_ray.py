"""Scoring on Ray: datatrove's executor and Ray Data's actors give what `airlab score` gives."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from airlab.cli.score import user_table
from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.stages.measure_losses import MeasureLosses
from airlab.stages.shard_notes import read_notes
from airlab.store.files import Files
from airlab.store.plan import Plan
from airlab.store.store import Store
from tests.resume.scoring_workers import ACTS, hashes, shards
from tests.unit.cli.conftest import documents, write_jsonl
from tests.unit.scoring.made_stage import scoring_stage

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytest.importorskip("datatrove", reason="the extra `datatrove` is not installed")

import ray
from datatrove.executor import RayPipelineExecutor

from airlab.pipelines.ray_data import ScoreBatch
from airlab.pipelines.shards import MeasureShards

ROOT = Path(__file__).parents[3]
COUNT = 600


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    """A real Ray of this host."""
    # One thread here and there: with more of them, how work is cut among them decides how sums round.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    told = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ray.init(
        num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False,
        runtime_env={"env_vars": told},
    )  # fmt: skip
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()
    torch.set_num_threads(threads)
    patch.undo()


def test_a_worker_killed_twice_costs_its_shard_and_the_bytes_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """datatrove's executor starts a task again whose actor died; what it had saved is kept."""
    monkeypatch.setenv(ACTS, str(tmp_path))
    (tmp_path / "act.json").write_text(json.dumps({"at": -1}))
    write_jsonl(tmp_path / "docs.jsonl", documents(5 * 256))
    stage = hashes(tmp_path)
    alone, store = Store(tmp_path / "alone"), Store(tmp_path / "store")
    Plan(alone, [stage]).run(Machine())
    Plan(store, [stage.corpus]).run(Machine())
    (tmp_path / "log").unlink()
    (tmp_path / "act.json").write_text(json.dumps({"at": 512, "what": "orphan", "times": 2}))
    RayPipelineExecutor(
        [MeasureShards(stage, store.root, Machine())], tasks=2, logging_dir=str(tmp_path / "logs"),
        mem_per_cpu_gb=0.1, ray_remote_kwargs={"runtime_env": {"env_vars": {ACTS: str(tmp_path)}}},
    ).run()  # fmt: skip
    firsts = [256 * number for number in range(5)]
    assert Counter(shards(tmp_path)) == {first: 3 if first == 512 else 1 for first in firsts}
    notes = read_notes(store.part(stage))
    assert [(note.first, note.state, note.of_shards) for note in notes] == [
        (f, "measured", 5) for f in firsts
    ]
    assert {note.worker for note in notes} == {"task 0 of 2", "task 1 of 2"}
    Plan(store, [stage]).run(Machine())
    name = "losses.parquet"
    assert (store.folder(stage) / name).read_bytes() == (alone.folder(stage) / name).read_bytes()
    assert len(shards(tmp_path)) == 5 + 2


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> MeasureLosses:
    return scoring_stage(tmp_path_factory.mktemp("given"), COUNT, (3, 555))


@pytest.fixture(scope="module")
def corpus(stage: MeasureLosses, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    store = Store(tmp_path_factory.mktemp("store"))
    Plan(store, [stage]).run(Machine())
    scored = user_table(pq.read_table(store.folder(stage) / "losses.parquet"))
    names = [name if name in ("id", "domain") else f"expected_{name}" for name in scored.column_names]
    texts = pq.read_table(store.folder(stage.corpus) / "documents.parquet", columns=["unit_id", "text"])
    return texts.rename_columns(["id", "text"]).join(scored.rename_columns(names), "id").sort_by("id")


def arguments(stage: MeasureLosses) -> dict[str, Path]:
    assert isinstance(stage.model, Files) and isinstance(stage.heads, Files)
    return {"model": stage.model.path, "heads": stage.heads.path}


def test_ray_datas_actor_gives_the_bytes_of_the_table_where_batches_are_its_shards(
    stage: MeasureLosses, corpus: pa.Table
) -> None:
    found = pa.concat_tables(
        ray.get(
            ray.data.from_arrow(corpus)
            .map_batches(
                ScoreBatch, fn_constructor_kwargs=arguments(stage), batch_format="pyarrow", batch_size=256,
                concurrency=1,
            )
            .to_arrow_refs()
        )
    ).sort_by("id")  # fmt: skip
    assert found["id"].equals(corpus["id"]) and found["text"].equals(corpus["text"]), "no row lost or changed"
    short = [n for n, told in enumerate(found["n_tokens"].to_pylist()) if not told]
    assert len(short) == 2
    for name in ("n_tokens", "loss_base", "loss_ref", "entropy", "attention_influence"):
        told, expected = found[name].to_pylist(), found[f"expected_{name}"].to_pylist()
        assert [told[n] for n in short] == [0 if name == "n_tokens" else None] * 2
        assert [v for n, v in enumerate(told) if n not in short] == [
            v for n, v in enumerate(expected) if n not in short
        ], f"{name} to the last bit"


def test_other_batches_round_and_no_more(stage: MeasureLosses, corpus: pa.Table) -> None:
    """Without Ray: the class is an ordinary callable."""
    score = ScoreBatch(**arguments(stage))
    found = pa.concat_tables([score(corpus.slice(0, 40)), score(corpus.slice(40, 7))])
    usable = np.array(found["n_tokens"].to_pylist()) > 0
    for name in ("loss_base", "loss_ref", "entropy"):
        told, expected = found[name].to_numpy()[usable], found[f"expected_{name}"].to_numpy()[usable]
        np.testing.assert_allclose(told, expected, rtol=1e-6)
    texts = corpus.select(["text"]).slice(0, 2)
    for odd, why in (
        (texts.rename_columns(["body"]), "no column 'text' \\(body\\): name theirs"),
        (texts.append_column("entropy", pa.array([1.0, 2.0])), "a column entropy already"),
        (pa.table({"text": ["a b c", None]}), "a document has no text in column 'text'"),
        ({"text": ["a"]}, 'batch_format="pyarrow"'),
    ):
        with pytest.raises(UserError, match=why):
            score(odd)
