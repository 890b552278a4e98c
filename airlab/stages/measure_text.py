"""Measure what can be seen of every document without a model."""

from dataclasses import asdict, dataclass
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from airlab.progress import track
from airlab.schema.machine import Machine
from airlab.store.stage import Stage, Workdir

SCHEMA = pa.schema(
    [
        ("unit_id", pa.string()),
        ("domain", pa.string()),
        ("n_bytes", pa.int64()),
        ("n_words", pa.int64()),
        ("compression_ratio", pa.float64()),
        ("repetition", pa.float64()),
    ]
)


@dataclass(frozen=True)
class MeasureText(Stage):
    """`statistics.parquet`: length, compression ratio and repetition of every document, in order.

    Cost: some seconds for ten million words.
    """

    VERSION: ClassVar[int] = 1
    corpus: Stage

    def run(self, work: Workdir, machine: Machine) -> None:
        from airlab.text.statistics import measure_text

        with (
            pq.ParquetFile(work.input(self.corpus) / "documents.parquet") as documents,
            work.writing("statistics.parquet") as path,
            pq.ParquetWriter(path, SCHEMA) as writer,
        ):
            groups = track(
                range(documents.num_row_groups), label="measuring texts", unit="shards of documents"
            )
            for group in groups:
                rows = documents.read_row_group(group, columns=["unit_id", "domain", "text"]).to_pylist()
                measured = [
                    {"unit_id": r["unit_id"], "domain": r["domain"], **asdict(measure_text(r["text"]))}
                    for r in rows
                ]
                writer.write_table(pa.Table.from_pylist(measured, schema=SCHEMA))
            work.note(documents=documents.metadata.num_rows)
