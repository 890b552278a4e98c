"""Held-out worked problems -> a folder of lm-eval tasks."""

from dataclasses import asdict, dataclass
from typing import ClassVar

from airlab.schema.evaluation import HELD_OUT, WorkedTaskSpec
from airlab.schema.machine import Machine
from airlab.store.stage import Stage, Workdir


@dataclass(frozen=True)
class BuildWorkedTasks(Stage):
    """Tasks from ``heldout.parquet``, ``harder.parquet`` and ``unseen.parquet`` of a corpus of problems.

    lm-eval YAML, JSONL and ``tasks.json``, which also says how problems are shown. Every checkpoint puts them
    into its own chat template, so the same folder serves all.
    """

    VERSION: ClassVar[int] = 1

    traces: Stage
    """A corpus of worked problems (BuildTraces)."""
    spec: WorkedTaskSpec
    seed: int
    """Of which problems are asked."""

    def slug(self) -> str:
        return f"seed{self.seed}"

    def run(self, work: Workdir, machine: Machine) -> None:
        import pyarrow.parquet as pq

        from airlab.evaluation.tasks.files import Turns, write_tasks
        from airlab.evaluation.tasks.worked import build_worked_tasks
        from airlab.text.traces import read_traces

        corpus = work.input(self.traces)
        traces = {split: list(read_traces(corpus / f"{split}.parquet")) for split in HELD_OUT}
        origins = pq.read_table(corpus / "problems.parquet", columns=["unit_id", "task"]).to_pylist()
        generators = {origin["unit_id"]: origin["task"] for origin in origins}
        tasks = build_worked_tasks(traces, generators, self.spec, self.seed)
        with work.writing("tasks") as folder:
            folder.mkdir()
            listed = write_tasks(folder, tasks, Turns(self.spec.rendering, self.spec.max_new_tokens))
        work.note(tasks=[asdict(task) for task in listed])
