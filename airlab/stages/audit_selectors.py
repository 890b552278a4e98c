"""Hold every selector's scores against length, repetition, compression, loss and domain."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow.parquet as pq

from airlab.schema.machine import Machine
from airlab.schema.selection import Selecting
from airlab.selection.audit import Association, Audit, Composition, Interval, Overlap, Remainder, audit
from airlab.stages.score_measured_units import aligned
from airlab.store.stage import Stage, Workdir

_FILE = "audit.json"


@dataclass(frozen=True)
class AuditSelectors(Stage):
    """`audit.json`: an `airlab.selection.audit.Audit` of several ScoreTables of one LossTable."""

    VERSION: ClassVar[int] = 1
    losses: Stage
    statistics: Stage
    """A `MeasureText` of the same corpus."""
    names: tuple[str, ...]
    scores: tuple[Stage, ...]
    """ScoreTables, one for each name."""
    selecting: Selecting
    resamples: int
    """Of the bootstrap over documents behind the intervals."""

    def run(self, work: Workdir, machine: Machine) -> None:
        losses = pq.read_table(work.input(self.losses) / "losses.parquet")
        units, domain, n_tokens, base = (
            losses[name].to_numpy(zero_copy_only=False)
            for name in ("unit_id", "domain", "n_tokens", "loss_sum_base")
        )
        texts = aligned(work.input(self.statistics) / "statistics.parquet", units)
        scores = {
            name: aligned(work.input(stage) / "scores.parquet", units)["score"]
            for name, stage in zip(self.names, self.scores, strict=True)
        }
        confounds = {
            "length": n_tokens.astype(np.float64),
            "repetition": texts["repetition"],
            "compression_ratio": texts["compression_ratio"],
            "base_loss": base / n_tokens,
        }
        found = audit(units, domain, n_tokens, scores, confounds, self.selecting, self.resamples)
        with work.writing(_FILE) as path:
            path.write_text(json.dumps(asdict(found), indent=1, allow_nan=False) + "\n")
        work.note(selectors=len(scores), units=len(units))


def read_audit(folder: Path) -> Audit:
    """The audit in the stage's finished folder."""
    found = json.loads((folder / _FILE).read_text())
    return Audit(
        n_units=found["n_units"],
        associations=tuple(Association(**row) for row in found["associations"]),
        remainders=tuple(Remainder(**row) for row in found["remainders"]),
        intervals=tuple(Interval(**row) for row in found["intervals"]),
        overlaps=tuple(Overlap(**row) for row in found["overlaps"]),
        compositions=tuple(Composition(**row) for row in found["compositions"]),
    )
