"""Chosen records as files that other programs read: JSON lines, Parquet, a data set in the hub's format."""

import gzip
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from airlab.errors import UserError

Record = Mapping[str, Any]
_BATCH = 256
_SHARD = "500MB"
"""Largest file of a data set."""


def write_jsonl(path: Path, ending: str, records: Iterable[Record]) -> None:
    """One JSON object a line, compressed as the ending says (`.jsonl`, `.jsonl.gz` or `.jsonl.zst`).

    Raises:
        UserError: a value that JSON has no word for.
    """
    with _opened(path, ending) as file:
        for record in records:
            try:
                line = json.dumps(record, ensure_ascii=False, allow_nan=False)
                file.write(line.encode() + b"\n")
            except (TypeError, ValueError) as error:
                raise UserError(
                    f"the column {_culprit(record)} holds what JSON cannot say ({error}): export to .parquet."
                ) from None


def _culprit(record: Record) -> str:
    for name, value in record.items():
        try:
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError):
            return f"'{name}'"
    return "names"


@contextmanager
def _opened(path: Path, ending: str) -> Iterator[BinaryIO]:
    with ExitStack() as stack:
        file: Any = stack.enter_context(path.open("wb"))
        if ending.endswith(".gz"):  # without name and time, so that the same records are the same bytes
            file = stack.enter_context(gzip.GzipFile("", "wb", fileobj=file, mtime=0))
        elif ending.endswith(".zst"):
            import zstandard

            file = stack.enter_context(zstandard.ZstdCompressor().stream_writer(file, closefd=False))
        yield stack.enter_context(io.BufferedWriter(file)) if ending.endswith((".gz", ".zst")) else file


def write_parquet(path: Path, schema: pa.Schema, records: Iterable[Record]) -> None:
    """A Parquet file in constant memory.

    Raises:
        UserError: a value that its column cannot hold.
    """
    stream = iter(records)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := list(islice(stream, _BATCH)):
            columns = [_column(field.name, batch, field.type) for field in schema]
            writer.write_table(pa.table(columns, schema=schema))


def write_dataset(folder: Path, schema: pa.Schema, records: Iterable[Record]) -> None:
    """A folder for `datasets.load_from_disk`, which a hub takes as it is; constant memory."""
    import datasets

    rows = folder / "rows.parquet"
    write_parquet(rows, schema, records)
    cache = folder / "cache"
    data = datasets.Dataset.from_parquet(str(rows), cache_dir=str(cache), keep_in_memory=False)
    data.save_to_disk(str(folder), max_shard_size=_SHARD)
    del data
    rows.unlink()
    shutil.rmtree(cache)


def schema_with(schema: pa.Schema, score_column: str) -> pa.Schema:
    """A table's schema with the scores behind it."""
    metadata = dict(schema.metadata or {})
    told = json.loads(metadata.get(b"huggingface", b"{}"))
    if "features" in told.get("info", {}):  # what the columns are beyond their types, such as images
        told["info"]["features"][score_column] = {"dtype": "float64", "_type": "Value"}
        metadata[b"huggingface"] = json.dumps(told).encode()
    return schema.append(pa.field(score_column, pa.float64())).with_metadata(metadata or None)


def schema_of(records: Iterable[Record]) -> pa.Schema:
    """The columns of all records, in the order in which they first appear, of types that hold every value.

    Raises:
        UserError: a column whose values have no type in common.
    """
    stream, types = iter(records), dict[str, pa.DataType]()
    while batch := list(islice(stream, _BATCH)):
        for name in dict.fromkeys(name for record in batch for name in record):
            found = _column(name, batch, None).type
            types[name] = _together(name, types.get(name, pa.null()), found)
    # A column of nothing but nulls has no type of its own; text is what most readers take for one.
    return pa.schema([(name, pa.string() if pa.types.is_null(t) else t) for name, t in types.items()])


def _together(name: str, one: pa.DataType, other: pa.DataType) -> pa.DataType:
    try:
        pair = (pa.schema([(name, one)]), pa.schema([(name, other)]))
        return pa.unify_schemas(pair, promote_options="permissive").field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise _mixed(name, error) from None


def _column(name: str, batch: list[Record], kind: pa.DataType | None) -> pa.Array:
    try:
        return pa.array([record.get(name) for record in batch], kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        raise _mixed(name, error) from None


def _mixed(name: str, error: Exception) -> UserError:
    first = str(error).splitlines()[0]
    return UserError(f"the column '{name}' holds values that fit no one type ({first}): export to .jsonl.")
