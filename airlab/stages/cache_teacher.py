"""What a teacher would say at every token that is trained on."""

import json
import shutil
from dataclasses import dataclass
from typing import ClassVar, Literal

import pyarrow.parquet as pq

from airlab.progress import progress
from airlab.schema.machine import Machine
from airlab.stages.prepare_model import Model, model_folder
from airlab.store.stage import Stage, Workdir

_TRACES_PER_SHARD = 64
"""Asked about between two saves, and in a row group of the table."""


@dataclass(frozen=True)
class CacheTeacher(Stage):
    """`teacher.parquet`: a row for each predicted token, with the teacher's most likely tokens there.

    One table serves every selection and weighting of the traces it was made of, since training finds tokens
    by their trace. Shards of a fixed number of traces are the unit of resume.
    """

    VERSION: ClassVar[int] = 1

    teacher: Model
    data: Stage
    """What `BuildTraining` makes, best of all traces; its weights do not matter."""
    top_k: int
    """Tokens kept of each distribution; the probability of all others is kept as one."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the teacher's weights; log-probabilities are float32 always."""

    def slug(self) -> str:
        """Such as `top-64`."""
        return f"top-{self.top_k}"

    def run(self, work: Workdir, machine: Machine) -> None:
        """Ask about the shards that no earlier attempt saved, then make one table of all."""
        from airlab.training.teacher import FACTS, TEACHER, Teacher, teacher_schema
        from airlab.training.trace_data import TraceData

        data = TraceData.open(work.input(self.data))
        n_traces = len(data.unit_ids)
        shards = {
            f"shards/{first:012d}.parquet": range(first, min(first + _TRACES_PER_SHARD, n_traces))
            for first in range(0, n_traces, _TRACES_PER_SHARD)
        }
        missing = {name: traces for name, traces in shards.items() if not work.has(name)}
        n_left = sum(map(len, missing.values()))
        if missing or not work.has(FACTS):
            teacher = Teacher(model_folder(work, self.teacher), data, self.top_k, self.precision, machine)
            with progress("asking the teacher", "traces", n_traces, before=n_traces - n_left) as advance:
                for name, traces in missing.items():
                    table = teacher.ask(traces)
                    with work.writing(name) as path:
                        pq.write_table(table, path)
                    advance(len(traces))
            with work.writing(FACTS) as path:
                path.write_text(json.dumps(teacher.facts, indent=1) + "\n")
        with (
            work.writing(TEACHER) as path,
            pq.ParquetWriter(path, teacher_schema(self.top_k)) as writer,
        ):
            for name in shards:
                writer.write_table(pq.read_table(work.path(name)))
        shutil.rmtree(work.path("shards"))
        work.note(traces=n_traces, n_predicted=int(data.n_predicted.sum()))
