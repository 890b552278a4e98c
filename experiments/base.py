"""What every experiment's configuration holds, and the cells that tables are made of."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from airlab.evaluation.records import Record, read_records
from airlab.schema.base import Frozen
from airlab.schema.corpus import Corpus
from airlab.schema.heads import Detection, Masking, Probes
from airlab.schema.mixture import MixtureSpec
from airlab.schema.models import ModelSource
from airlab.schema.scoring import Scoring
from airlab.schema.selection import Selecting
from airlab.schema.training import TargetModel, Training
from airlab.stages.evaluate import Evaluate
from airlab.store.store import Store


class Experiment(Frozen):
    """The groups of `configs/run.yaml`: each experiment binds all of them, and says which it has no use for.

    `evaluation` is one of them; of which kind, and so the field, is the experiment's own.
    """

    ASKED: ClassVar[tuple[str, ...]] = ("attention_influence",)
    """Arms that the question is about: a report tells their verdicts one by one, and counts all others."""
    scale: str
    corpus: Corpus = Field(discriminator="kind")
    model: ModelSource = Field(discriminator="kind")
    probes: Probes
    detection: Detection
    masking: Masking
    scoring: Scoring
    selecting: Selecting
    mixture: MixtureSpec
    target: TargetModel
    training: Training
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Cell:
    """One trained model: an arm and a seed."""

    variant: str
    seed: int
    evaluation: Evaluate

    @property
    def name(self) -> str:
        return f"{self.variant}/seed-{self.seed}"


def cell_records(some: Iterable[Cell], store: Store) -> dict[str, list[Record]]:
    """The records of finished cells, by arm."""
    records: dict[str, list[Record]] = {}
    for cell in some:
        folder = store.find(cell.evaluation)
        if folder is not None:
            records.setdefault(cell.variant, []).extend(read_records(folder / "records.parquet"))
    return records
