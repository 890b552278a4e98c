"""From scores of steps to the weights of their tokens in fine-tuning."""

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from airlab.schema.machine import Machine
from airlab.schema.step_weights import StepWeights
from airlab.store.stage import Stage, Workdir

WEIGHTS_SCHEMA = pa.schema(
    [("unit_id", pa.string()), ("parent_id", pa.string()), ("n_tokens", pa.int64()), ("weight", pa.float64())]
)


@dataclass(frozen=True)
class WeighSteps(Stage):
    """The table `weights.parquet`: unit_id, parent_id, n_tokens and the weight of each step's tokens."""

    VERSION: ClassVar[int] = 1
    scores: Stage
    """A ScoreTable of steps: `scores.parquet`, of which a unit is `<trace>#<number from 0>`."""
    selection: Stage | None
    """Traces to which the steps are kept before they are weighed; None keeps all."""
    spec: StepWeights

    def slug(self) -> str:
        """Such as `softmax`."""
        return self.spec.kind.replace("_", "-")

    def run(self, work: Workdir, machine: Machine) -> None:
        from airlab.selection.step_weights import of_selected, step_weights

        table = pq.read_table(work.input(self.scores) / "scores.parquet")
        if self.selection is not None:
            chosen = pq.read_table(work.input(self.selection) / "selection.parquet", columns=["unit_id"])
            names = (table["parent_id"], chosen["unit_id"])
            kept = of_selected(*(column.to_numpy(zero_copy_only=False) for column in names))
            table = table.filter(pa.array(kept))
        traces, tokens, score = (
            table[name].to_numpy(zero_copy_only=False) for name in ("parent_id", "n_tokens", "score")
        )
        weights = step_weights(traces, tokens, score, self.spec)
        steps = table.select(["unit_id", "parent_id", "n_tokens"])
        with work.writing("weights.parquet") as path:
            pq.write_table(steps.append_column("weight", pa.array(weights)).cast(WEIGHTS_SCHEMA), path)
        work.note(steps=table.num_rows, least=float(weights.min()), most=float(weights.max()))
