"""Score every document with a sequence-classification model."""

import shutil
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from airlab.progress import progress
from airlab.schema.machine import Machine
from airlab.stages.prepare_model import Model, model_folder
from airlab.store.stage import Stage, Workdir

SCHEMA = pa.schema([("unit_id", pa.string()), ("score", pa.float64())])


@dataclass(frozen=True)
class ClassifyDocuments(Stage):
    """`scores.parquet`: a classifier's score of every document, in order.

    Resume unit: one row group of the corpus. Cost: one pass of the classifier over the first
    `max_tokens` tokens of each document.
    """

    VERSION: ClassVar[int] = 1
    model: Model
    output: int | None
    """Which of the model's outputs is the score (its log-probability); None where it has one."""
    max_tokens: int
    corpus: Stage

    def run(self, work: Workdir, machine: Machine) -> None:
        from airlab.models.device import use_device
        from airlab.scoring.classifier import classifier_scores, load_classifier

        with pq.ParquetFile(work.input(self.corpus) / "documents.parquet") as documents:
            total = documents.metadata.num_rows
            names = [f"shards/{group:06d}.parquet" for group in range(documents.num_row_groups)]
            if not work.has("scores.parquet"):
                classifier = load_classifier(
                    model_folder(work, self.model),
                    output=self.output,
                    max_tokens=self.max_tokens,
                    device=use_device(machine),
                )
                missing = {group: name for group, name in enumerate(names) if not work.has(name)}
                rest = sum(documents.metadata.row_group(group).num_rows for group in missing)
                with progress("classifying", "documents", total, before=total - rest) as advance:
                    for group, name in missing.items():
                        rows = documents.read_row_group(group, columns=["unit_id", "text"])
                        scores = classifier_scores(
                            classifier, rows["text"].to_pylist(), machine.tokens_per_batch, advance
                        )
                        found = pa.table([rows["unit_id"], pa.array(scores)], schema=SCHEMA)
                        with work.writing(name) as path:
                            pq.write_table(found, path)
                with work.writing("scores.parquet") as path, pq.ParquetWriter(path, SCHEMA) as writer:
                    for name in names:
                        writer.write_table(pq.read_table(work.path(name)))
            work.note(documents=total)
        shutil.rmtree(work.path("shards"), ignore_errors=True)
