"""Score every unit with one selector: the ScoreTable."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units
from airlab.store.stage import Stage, Workdir


def read_units(losses: Path, corpus: Path) -> tuple[pa.Table, Units]:
    """A LossTable as a selector sees it; texts are read only by the selectors that ask for them."""
    table = pq.read_table(losses)
    names = ("unit_id", "domain", "n_tokens", "loss_sum_base", "loss_sum_ref", "entropy_sum_base")
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in names}

    def texts() -> list[str]:
        documents = pq.read_table(corpus, columns=["unit_id", "text"])
        by_id = dict(zip(documents["unit_id"].to_pylist(), documents["text"].to_pylist(), strict=True))
        return [by_id[u] for u in table["unit_id"].to_pylist()]

    return table, Units(**columns, texts=texts)


def write_scores(work: Workdir, table: pa.Table, selector: SelectorBase, scores: np.ndarray) -> None:
    """Write `scores.parquet`.

    Args:
        table: a LossTable.
        scores: one for each of its rows.

    Raises:
        UserError: a score is missing or no finite number.
    """
    if scores.shape != (table.num_rows,) or not np.isfinite(scores).all():
        kind = getattr(selector, "kind", "")
        raise UserError(f"the selector {kind} gave a score that is missing or not a finite number.")
    out = table.select(["unit_id", "parent_id", "domain", "n_tokens"])
    with work.writing("scores.parquet") as path:
        pq.write_table(out.append_column("score", pa.array(scores, pa.float64())), path)


@dataclass(frozen=True)
class ScoreUnits(Stage):
    """The ScoreTable `scores.parquet` of one selector: all that a selector hands on."""

    VERSION: ClassVar[int] = 1
    losses: Stage
    corpus: Stage
    selector: SelectorBase
    seed: int

    def slug(self) -> str:
        return str(getattr(self.selector, "kind", ""))

    def run(self, work: Workdir, machine: Machine) -> None:
        table, units = read_units(
            work.input(self.losses) / "losses.parquet", work.input(self.corpus) / "documents.parquet"
        )
        write_scores(work, table, self.selector, self.selector.score(units, self.seed))
