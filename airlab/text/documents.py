"""The table of documents that every later stage reads: one row a document, row groups of 256 rows.

A row group is what is read at once. A shard, the unit of resume in scoring, is a run of row groups.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

ROWS_PER_GROUP = 256

SHARD_BYTES = 64 << 20
"""No shard grows beyond this much text, however many documents it was to have: long ones cost memory."""


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


class Shard(NamedTuple):
    """Consecutive row groups of a table of documents."""

    first: int
    """Number of its first document in the table, from 0."""
    documents: int
    groups: tuple[int, ...]


SCHEMA = pa.schema([(name, pa.string()) for name in Document._fields])
SKIPPED_SCHEMA = pa.schema([(name, pa.string()) for name in Skipped._fields])


class TableWriter:
    """Writes rows in groups of exactly 256, or as many as are asked for (the last may be shorter).

    Memory: the rows of a group, and about a kilobyte of the footer a group: a table that grows without end
    needs large ones.
    """

    def __init__(self, path: Path, schema: pa.Schema, rows_per_group: int = ROWS_PER_GROUP) -> None:
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._schema = schema
        self._rows_per_group = rows_per_group
        self._rows: list[tuple[object, ...]] = []
        self.count = 0

    def add(self, row: tuple[object, ...]) -> None:
        self._rows.append(row)
        self.count += 1
        if len(self._rows) == self._rows_per_group:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(self._schema)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._writer.write_table(pa.table(arrays, schema=self._schema), row_group_size=self._rows_per_group)
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


def cut_into_shards(metadata: pq.FileMetaData, documents: int, column: str | None = "text") -> list[Shard]:
    """Cut a table into shards of `documents` documents, the last of which may have fewer.

    A shard ends earlier where its text would exceed `SHARD_BYTES`, but never inside a row group. The cuts
    depend on the table and on `documents` alone.

    Args:
        column: holds the text; None for all columns together.
    """
    shards: list[Shard] = []
    size = row = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        text = (
            group.total_byte_size
            if column is None
            else group.column(metadata.schema.names.index(column)).total_uncompressed_size
        )
        last = shards[-1] if shards else None
        if last and last.documents + group.num_rows <= documents and size + text <= SHARD_BYTES:
            shards[-1] = Shard(last.first, last.documents + group.num_rows, (*last.groups, index))
            size += text
        else:
            shards.append(Shard(row, group.num_rows, (index,)))
            size = text
        row += group.num_rows
    return shards


def read_documents(path: Path) -> Iterator[Document]:
    """All documents in order, one row group in memory at a time."""
    with pq.ParquetFile(path) as file:
        for index in range(file.num_row_groups):
            for row in file.read_row_group(index).to_pylist():
                yield Document(**row)
