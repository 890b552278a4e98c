"""A large corpus as token ids in files of a bounded size, each made by itself, the same whoever makes it.

The format is that of `tokenize_corpus`, with the ids in `tokens-00000.bin` and on instead of one file:
`index.parquet` (unit_id, domain, offset, n_tokens) counts offsets over all files as if they were one, and no
document lies in two. `tokenized.json` names the files and counts what became of every row:
in = tokenized + skipped + quarantined.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airlab.errors import UserError
from airlab.schema.base import Frozen
from airlab.schema.text import Columns
from airlab.selection.mixture import INDEX_SCHEMA
from airlab.text.documents import SKIPPED_SCHEMA, Skipped, TableWriter
from airlab.text.pinned_files import Location, PinnedFile, opened
from airlab.text.quarantine import SCHEMA as QUARANTINE_SCHEMA
from airlab.text.quarantine import Place, Quarantine, digest
from airlab.text.readers import Row, read_row_groups
from airlab.text.row_ranges import RowRange
from airlab.training.text_encoder import TextEncoder

KINDS = {
    "index": pa.schema([*INDEX_SCHEMA, ("row", pa.int64()), ("n_bytes", pa.int64())]),
    "skipped": SKIPPED_SCHEMA,
    "quarantine": QUARANTINE_SCHEMA,
}
"""The tables of a shard. A document's row in its file and its bytes stay out of the whole index."""

IDS = "ids"
"""Eight bytes that stand for each id of a shard's index, in order."""

_ROWS_PER_GROUP = 1 << 16
"""Of tables whose footer must not grow with the corpus."""
_ID = np.dtype("<u8")
_ID_BYTES = _ID.itemsize
_TEXT_AT_ONCE = 2 << 20
_DOCUMENTS_AT_ONCE = 1 << 10
_IDS_AT_ONCE = 1 << 22
_NO_TOKENS = "no tokens"
_REPEATED = "a repeated id"


class Source(Frozen):
    """What is tokenized, and how it is read."""

    where: Location
    files: tuple[PinnedFile, ...]
    ranges: tuple[RowRange, ...]
    columns: Columns


class ShardFacts(Frozen):
    """What became of the rows of one shard."""

    rows: int
    tokenized: int
    skipped_by_reason: dict[str, int]
    quarantined_by_reason: dict[str, int]
    first_quarantined: str | None
    file_tokens: int


def write_shard(
    source: Source,
    part: RowRange,
    encoder: TextEncoder,
    tokens: Path,
    tables: Mapping[str, Path],
    advance: Callable[[int], None] = lambda rows: None,
) -> ShardFacts:
    """Tokenize a range of rows.

    Memory: 2 MiB of text (or the longest document) as ids, 64 Ki rows of each table, and what `opened` keeps
    of the file; not more with more rows.

    Args:
        tables: where to write each of `KINDS` and `IDS`.
        advance: told of rows as they are done.

    Raises:
        UserError: the file cannot be read, or is not what it was.
    """
    file = source.files[part.file]
    skipped_by_reason: Counter[str] = Counter()
    offset = 0
    with ExitStack() as stack:
        stream = stack.enter_context(tokens.open("wb"))
        ids = stack.enter_context(tables[IDS].open("wb"))
        index = stack.enter_context(TableWriter(tables["index"], KINDS["index"], _ROWS_PER_GROUP))
        skipped = stack.enter_context(TableWriter(tables["skipped"], SKIPPED_SCHEMA, _ROWS_PER_GROUP))
        quarantine = stack.enter_context(Quarantine(tables["quarantine"], _ROWS_PER_GROUP))
        found = stack.enter_context(opened(source.where, file))
        rows = read_row_groups(
            found,
            range(part.first_group, part.first_group + part.groups),
            source.columns,
            Place(f"{file.name} of {source.where.words}", file.name),
            quarantine,
            row=part.row,
            rows=part.rows,
            position=part.position,
        )
        done = part.row
        for batch in _batches(rows):
            texts = [row.text for _, row in batch]
            for (number, row), encoded in zip(batch, encoder.encode(texts), strict=True):
                if len(encoded) == 0 or not row.text.strip():
                    reason = _NO_TOKENS if row.text.strip() else "empty"
                    skipped.add(Skipped(row.unit_id, row.domain, reason))
                    skipped_by_reason[reason] += 1
                    continue
                stream.write(encoded.tobytes())
                size = len(row.text.encode())
                index.add((row.unit_id, row.domain, offset, len(encoded), number, size))
                offset += len(encoded)
                if row.id_type != "position":
                    ids.write(digest(row.unit_id).to_bytes(_ID_BYTES, "little"))
            advance(batch[-1][0] + 1 - done)
            done = batch[-1][0] + 1
        advance(part.row + part.rows - done)
    return ShardFacts(
        rows=part.rows,
        tokenized=index.count,
        skipped_by_reason=dict(sorted(skipped_by_reason.items())),
        quarantined_by_reason=dict(sorted(quarantine.reasons.items())),
        first_quarantined=None if quarantine.first is None else str(quarantine.first),
        file_tokens=offset,
    )


def _batches(rows: Iterable[tuple[int, Row]]) -> Iterator[list[tuple[int, Row]]]:
    """Rows that are encoded together: enough to keep all cores busy, few enough to hold as ids."""
    batch: list[tuple[int, Row]] = []
    size = 0
    for numbered in rows:
        batch.append(numbered)
        size += len(numbered[1].text)
        if size >= _TEXT_AT_ONCE or len(batch) == _DOCUMENTS_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def join_shards(
    source: Source,
    shards: Sequence[tuple[RowRange, ShardFacts, Mapping[str, Path]]],
    tables: Mapping[str, Path],
) -> dict[str, Any]:
    """Make the whole tables out of those of all shards, in order; returns the counts.

    Of several documents with one id the first is kept: the others are quarantined, and their tokens stay in
    their file without a place in the index.

    Memory: 64 Ki rows, 32 MiB of ids, and every id that is repeated.

    Raises:
        UserError: no document is left.
    """
    repeated = _repeated([paths[IDS] for _, _, paths in shards])
    seen: set[str] = set()
    skipped: Counter[str] = Counter()
    quarantined: Counter[str] = Counter()
    tokenized = n_tokens = n_bytes = offset = 0
    with ExitStack() as stack:
        index, skips, quarantine = (
            stack.enter_context(pq.ParquetWriter(tables[kind], schema, compression="zstd"))
            for kind, schema in (("index", INDEX_SCHEMA), *list(KINDS.items())[1:])
        )
        for part, facts, paths in shards:
            skipped.update(facts.skipped_by_reason)
            quarantined.update(facts.quarantined_by_reason)
            _copy(paths["skipped"], skips)
            _copy(paths["quarantine"], quarantine)
            with paths[IDS].open("rb") as ids:
                for table in _read(paths["index"]):
                    again = _seen_again(table, ids, repeated, seen)
                    if again.any():
                        quarantined[_REPEATED] += int(again.sum())
                        file = source.files[part.file].name
                        quarantine.write_table(_told_repeated(table.filter(pa.array(again)), file))
                        table = table.filter(pa.array(~again))
                    offsets = pc.add(table["offset"], pa.scalar(offset, pa.int64()))
                    table = table.set_column(table.schema.get_field_index("offset"), "offset", offsets)
                    tokenized += table.num_rows
                    n_tokens += pc.sum(table["n_tokens"]).as_py() or 0
                    n_bytes += pc.sum(table["n_bytes"]).as_py() or 0
                    index.write_table(table.select(INDEX_SCHEMA.names))
            offset += facts.file_tokens
    if tokenized == 0:
        first = next((facts.first_quarantined for _, facts, _ in shards if facts.first_quarantined), None)
        told = f"; the first of those broken: {first}" if first else ": give one that does."
        raise UserError(f"{source.where.words} holds no document that can be tokenized{told}")
    return {
        "in": sum(facts.rows for _, facts, _ in shards),
        "tokenized": tokenized,
        "skipped": skipped.total(),
        "skipped_by_reason": dict(sorted(skipped.items())),
        "quarantined": quarantined.total(),
        "quarantined_by_reason": dict(sorted(quarantined.items())),
        "n_documents": tokenized,
        "n_tokens": n_tokens,
        "n_bytes": n_bytes,
    }


def _repeated(files: Sequence[Path]) -> np.ndarray:
    """Digests that are there more than once, sorted, found in slices of their range that fit into memory."""
    total = sum(path.stat().st_size for path in files) // _ID_BYTES
    slices = -(-total // _IDS_AT_ONCE)
    found = [np.empty(0, dtype=_ID)]
    for number in range(slices):
        low, high = (((1 << 64) * bound // slices) for bound in (number, number + 1))
        some = [chunk[(chunk >= low) & (chunk <= high - 1)] for path in files for chunk in _ids(path)]
        values, counts = np.unique(np.concatenate(some), return_counts=True)
        found.append(values[counts > 1])
    return np.concatenate(found)


def _ids(path: Path) -> Iterator[np.ndarray]:
    with path.open("rb") as file:
        while len(chunk := np.fromfile(file, dtype=_ID, count=_IDS_AT_ONCE // 4)):
            yield chunk


def _seen_again(table: pa.Table, ids: BinaryIO, repeated: np.ndarray, seen: set[str]) -> np.ndarray:
    """Which documents, bool, have an id that one before them has; `ids` goes on by as many as there are."""
    again = np.zeros(table.num_rows, dtype=bool)
    digests = np.frombuffer(ids.read(_ID_BYTES * table.num_rows), dtype=_ID)
    for row in np.flatnonzero(np.isin(digests, repeated)).tolist():
        unit_id = table["unit_id"][row].as_py()
        again[row] = unit_id in seen
        seen.add(unit_id)
    return again


def _told_repeated(table: pa.Table, file: str) -> pa.Table:
    n = table.num_rows
    told = "has the id of a document before it: make the ids unique, or name another column."
    columns = {"file": [file] * n, "row": table["row"], "offset": [None] * n, "unit_id": table["unit_id"]}
    return pa.table({**columns, "reason": [_REPEATED] * n, "detail": [told] * n}, schema=QUARANTINE_SCHEMA)


def _read(path: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(path, buffer_size=1 << 20) as file:
        for batch in file.iter_batches(_ROWS_PER_GROUP):
            yield pa.Table.from_batches([batch])


def _copy(path: Path, writer: pq.ParquetWriter) -> None:
    for table in _read(path):
        writer.write_table(table)
