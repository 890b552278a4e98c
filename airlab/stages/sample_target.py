"""Texts that a selector goes towards: a task's questions with their right answers, none that is evaluated."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from airlab.errors import UserError
from airlab.schema.evaluation import EvaluationSpec, HarnessSpec, LocalTask
from airlab.schema.machine import Machine
from airlab.selection.units import Columns
from airlab.store.stage import Stage, Workdir

ITEMS = 1000
"""Of a task, at most: many n-grams, where evaluation makes do with few items."""

_FILE = "texts.parquet"
_SCHEMA = pa.schema([("text", pa.string())])


@dataclass(frozen=True)
class SampleTask(Stage):
    """`texts.parquet`: items of a local task made of the corpus' own documents, in place of held-out ones.

    They are made as the evaluation makes them. Documents of the corpus and held-out ones have no group and no
    near duplicate in common, so no evaluated item is seen; the documents that items come from are units too.
    """

    VERSION: ClassVar[int] = 1
    corpus: Stage
    task: LocalTask
    planned: str
    """Which of the tasks that `task` plans."""

    def slug(self) -> str:
        return self.planned

    def run(self, work: Workdir, machine: Machine) -> None:
        from airlab.evaluation.targets import task_texts
        from airlab.evaluation.tasks.items import Document

        documents = work.input(self.corpus) / "documents.parquet"
        rows = pq.read_table(documents, columns=["unit_id", "domain", "source", "text"]).to_pylist()
        texts = task_texts([Document(**row) for row in rows], self.task, self.planned)
        with work.writing(_FILE) as path:
            pq.write_table(pa.table({"text": texts}, schema=_SCHEMA), path)
        work.note(texts=len(texts))


@dataclass(frozen=True)
class SampleBenchmark(Stage):
    """`texts.parquet`: items of a benchmark of the harness that it does not evaluate. Needs a hub."""

    VERSION: ClassVar[int] = 1
    benchmark: str
    """The harness's name for it, a task or a group."""

    def slug(self) -> str:
        return self.benchmark

    def run(self, work: Workdir, machine: Machine) -> None:
        from airlab.evaluation.client import benchmark_texts
        from airlab.evaluation.hub import require_hub

        require_hub(
            f"selecting towards {self.benchmark} downloads it",
            "select towards a domain, a text or a local task",
        )
        texts, facts = benchmark_texts(self.benchmark)
        with work.writing(_FILE) as path:
            pq.write_table(pa.table({"text": texts}, schema=_SCHEMA), path)
        work.note(texts=len(texts), **facts)


def task_stage(corpus: Stage, name: str, evaluation: EvaluationSpec | None) -> SampleTask | SampleBenchmark:
    """The stage that samples a task of an experiment's evaluation.

    Raises:
        UserError: the evaluation has no such task, or there is none.
    """
    if evaluation is None:
        raise UserError(
            f"there is no evaluation whose task {name!r} could be selected towards; "
            "select towards a domain, a text or a benchmark."
        )
    if isinstance(evaluation, HarnessSpec):
        for benchmark in evaluation.tasks:
            if benchmark.name == name:
                return SampleBenchmark(benchmark.harness_name)
    else:
        for task in evaluation.tasks:
            if name in [planned.name for planned in task.planned()]:
                return SampleTask(corpus, task.model_copy(update={"items": ITEMS}), name)
    known = ", ".join(planned.name for planned in evaluation.planned())
    raise UserError(f"the evaluation has no task {name!r} to select towards; it has {known}.")


def read_target(folder: Path) -> Columns:
    """The column `text` of a finished sample."""
    return {"text": pq.read_table(folder / _FILE)["text"].to_numpy(zero_copy_only=False)}
