"""The two stages through the real store."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airlab.errors import UserError
from airlab.evaluation.records import read_records
from airlab.evaluation.tasks.files import read_tasks
from airlab.evaluation.tasks.items import Document
from airlab.schema.evaluation import BitsPerByte, HarnessSpec, HarnessTask, KeyRetrieval, TaskSpec
from airlab.schema.machine import Machine
from airlab.stages.build_tasks import BuildTasks
from airlab.stages.evaluate import Evaluate
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store

SOURCES: dict[str, object] = {}


@dataclass(frozen=True)
class FakePool(Stage):
    VERSION: ClassVar[int] = 1
    heldout: bool = True

    def run(self, work: Workdir, machine: Machine) -> None:
        documents = SOURCES["documents"]
        assert isinstance(documents, list)
        rows = [
            {
                "unit_id": d.unit_id,
                "domain": d.domain,
                "text": d.text,
                "source": d.source,
                "licence": "",
                "member": "",
            }
            for d in documents
        ]
        with work.writing("heldout.parquet" if self.heldout else "documents.parquet") as path:
            pq.write_table(pa.Table.from_pylist(rows), path)


@dataclass(frozen=True)
class FakePretrain(Stage):
    VERSION: ClassVar[int] = 1
    seed: int = 0

    def run(self, work: Workdir, machine: Machine) -> None:
        source = SOURCES["checkpoint"]
        assert isinstance(source, Path)
        for path in source.iterdir():
            with work.writing(path.name) as target:
                shutil.copy(path, target)


SPEC = TaskSpec(
    minimum_items=5,
    tasks=(
        BitsPerByte(items=6, domains=("prose",), max_bytes=100, min_bytes=50),
        KeyRetrieval(items=5, pairs=2),
    ),
)


@pytest.fixture
def store(tmp_path: Path, documents: list[Document], checkpoint: Path) -> Store:
    SOURCES.update(documents=documents, checkpoint=checkpoint)
    return Store(tmp_path / "store")


def test_records_follow_from_pool_and_checkpoint(store: Store) -> None:
    tasks = BuildTasks(FakePool(), SPEC, seed=0)
    stage = Evaluate(FakePretrain(seed=5), tasks, seed=5, batch_size=3)
    Plan(store, [stage]).run(Machine())
    folder, task_folder = store.find(stage), store.find(tasks)
    assert folder is not None and task_folder is not None
    records = read_records(folder / "records.parquet")
    assert len(records) == 6 + 4 * 5 and {record.seed for record in records} == {5}
    versions = {task.name: task.version for task in read_tasks(task_folder / "tasks")}
    assert all(record.task_version == versions[record.task] for record in records)
    assert Plan(store, [stage]).missing() == ()


def test_a_pool_without_held_out_text_is_refused(store: Store) -> None:
    with pytest.raises(UserError, match="no held-out documents"):
        Plan(store, [BuildTasks(FakePool(heldout=False), SPEC, seed=0)]).run(Machine())


@pytest.mark.parametrize(
    ("chat", "instead"), [(False, "use evaluation=local"), (True, "use evaluation=worked")]
)
def test_the_harness_suite_is_refused_without_a_hub(
    store: Store, monkeypatch: pytest.MonkeyPatch, chat: bool, instead: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    task = HarnessTask(name="ARC-E", harness_name="arc_easy", shots=5, metric="acc", chat=chat)
    stage = Evaluate(FakePretrain(), HarnessSpec(tasks=(task,)), seed=0)
    with pytest.raises(UserError, match=instead):
        Plan(store, [stage]).run(Machine())
    assert store.find(stage) is None
