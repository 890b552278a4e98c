"""Turn scores into a subset."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from airlab.schema.machine import Machine
from airlab.schema.selection import Selecting
from airlab.selection.select import select
from airlab.store.stage import Stage, Workdir


@dataclass(frozen=True)
class SelectUnits(Stage):
    """The Selection `selection.parquet`: the chosen units with their scores, sorted by id."""

    VERSION: ClassVar[int] = 1
    scores: Stage
    selecting: Selecting

    def slug(self) -> str:
        return self.scores.slug()

    def run(self, work: Workdir, machine: Machine) -> None:
        table = pq.read_table(work.input(self.scores) / "scores.parquet")
        names = ("unit_id", "domain", "n_tokens", "score")
        columns = {name: table[name].to_numpy(zero_copy_only=False) for name in names}
        chosen = select(**columns, spec=self.selecting)
        picked = table.filter(pa.array(chosen)).select(["unit_id", "domain", "n_tokens", "score"])
        with work.writing("selection.parquet") as path:
            pq.write_table(picked.sort_by("unit_id"), path)
        work.note(units=picked.num_rows, tokens=int(sum(picked["n_tokens"].to_pylist())))
