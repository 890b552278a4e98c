"""The table of documents that every later stage reads: one row a document, shards of 256 rows.

A shard is a Parquet row group. It is the unit of resume in scoring, so its size is fixed here and
nowhere else.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

ROWS_PER_GROUP = 256


class Document(NamedTuple):
    """One document and where it comes from."""

    unit_id: str
    domain: str
    text: str
    source: str = ""
    """``name==version`` of the package, or the file or data set the user named."""
    licence: str = ""
    member: str = ""
    """Where inside the source."""


class Skipped(NamedTuple):
    """A document that was read and left out, and why."""

    unit_id: str
    domain: str
    reason: str


SCHEMA = pa.schema([(name, pa.string()) for name in Document._fields])
SKIPPED_SCHEMA = pa.schema([(name, pa.string()) for name in Skipped._fields])


class TableWriter:
    """Writes rows in groups of exactly 256 (the last may be shorter) in constant memory."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._schema = schema
        self._rows: list[tuple[str, ...]] = []
        self.count = 0

    def add(self, row: tuple[str, ...]) -> None:
        self._rows.append(row)
        self.count += 1
        if len(self._rows) == ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(self._schema)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._writer.write_table(pa.table(arrays, schema=self._schema), row_group_size=ROWS_PER_GROUP)
        self._rows.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._rows:
                self._flush()
        finally:
            self._writer.close()


def write_documents(path: Path, rows: Iterable[Document]) -> int:
    """Writes documents.parquet (or heldout.parquet) and returns the number of rows."""
    with TableWriter(path, SCHEMA) as writer:
        for row in rows:
            writer.add(row)
    return writer.count


def write_skipped(path: Path, rows: Iterable[Skipped]) -> int:
    """Writes skipped.parquet and returns the number of rows."""
    with TableWriter(path, SKIPPED_SCHEMA) as writer:
        for row in rows:
            writer.add(row)
    return writer.count


def row_groups(path: Path) -> int:
    """Number of shards; 0 for a table without rows."""
    metadata = pq.read_metadata(path)
    return metadata.num_row_groups if metadata.num_rows else 0


def read_row_group(path: Path, index: int) -> pa.Table:
    """One shard: up to 256 rows of `SCHEMA`."""
    with pq.ParquetFile(path) as file:
        return file.read_row_group(index)


def read_documents(path: Path) -> Iterator[Document]:
    """All documents in order, one shard in memory at a time."""
    for index in range(row_groups(path)):
        for row in read_row_group(path, index).to_pylist():
            yield Document(**row)
