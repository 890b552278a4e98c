"""Held-out documents -> a folder of lm-eval tasks."""

from dataclasses import asdict, dataclass
from typing import ClassVar

from airlab.schema.evaluation import TaskSpec
from airlab.schema.machine import Machine
from airlab.store.stage import Stage, Workdir


@dataclass(frozen=True)
class BuildTasks(Stage):
    """Tasks from ``heldout.parquet`` of a corpus: lm-eval YAML, JSONL and ``tasks.json``."""

    VERSION: ClassVar[int] = 1

    corpus: Stage
    """A corpus with held-out documents (BuildPool)."""
    spec: TaskSpec
    seed: int

    def slug(self) -> str:
        return f"seed{self.seed}"

    def run(self, work: Workdir, machine: Machine) -> None:
        import pyarrow.parquet as pq

        from airlab.errors import UserError
        from airlab.evaluation.tasks.build import build_tasks
        from airlab.evaluation.tasks.files import write_tasks
        from airlab.evaluation.tasks.items import Document

        held_out = work.input(self.corpus) / "heldout.parquet"
        if not held_out.is_file():
            raise UserError(
                "the corpus has no held-out documents to make tasks of: use one built with a held-out share"
            )
        rows = pq.read_table(held_out, columns=["unit_id", "domain", "source", "text"]).to_pylist()
        tasks = build_tasks([Document(**row) for row in rows], self.spec, self.seed)
        with work.writing("tasks") as folder:
            folder.mkdir()
            listed = write_tasks(folder, tasks)
        work.note(tasks=[asdict(task) for task in listed])
