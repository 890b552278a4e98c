"""The user's own documents: JSON lines (plain, gzip, zstd), Parquet, a saved data set, a hub data set.

All readers stream. They yield one `Row` a document, in the order of the input, and stop with a
`UserError` of one sentence at the first thing that is not a document.
"""

import gzip
import itertools
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from airlab.errors import UserError
from airlab.schema.text import Columns, HubDataset

Format = Literal["jsonl", "jsonl.gz", "jsonl.zst", "parquet", "folder", "saved data set"]

TEXT_NAMES = ("text", "content", "document")
ID_NAMES = ("id", "unit_id", "doc_id", "uuid")
DOMAIN_NAMES = ("domain", "source_domain", "subset")

_SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonl.gz": "jsonl.gz",
    ".ndjson.gz": "jsonl.gz",
    ".jsonl.zst": "jsonl.zst",
    ".ndjson.zst": "jsonl.zst",
    ".parquet": "parquet",
}
_BATCH = 256
_CHUNK_BYTES = 1 << 16


class Row(NamedTuple):
    """One document as the user gave it."""

    unit_id: str
    domain: str
    text: str
    id_type: str
    """``str``, ``int`` (kept as decimal digits), or ``position`` where the input has no ids."""


class ChosenColumns(NamedTuple):
    """The columns to read; id and domain are None where the input has none."""

    text: str
    id: str | None
    domain: str | None


def format_of(path: Path) -> Format:
    """How to read the file or folder, by its suffix or its contents. `UserError` for anything else."""
    if not path.exists():
        raise UserError(f"{path} does not exist: check the path.")
    if path.is_dir():
        if (path / "dataset_dict.json").exists():
            splits = ", ".join(json.loads((path / "dataset_dict.json").read_text()).get("splits", []))
            raise UserError(f"{path} holds several splits ({splits}): give the folder of one of them.")
        if (path / "state.json").exists():
            return "saved data set"
        members_of(path)
        return "folder"
    found = suffix_format(path.name)
    if found is None:
        raise UserError(
            f"{path} is of an unknown type: give a {', '.join(_SUFFIXES)} file or a saved data set."
        )
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty: give a file with documents.")
    return found


def read_rows(path: Path, kind: Format, columns: Columns) -> Iterator[Row]:
    """All documents of a file or folder of that format.

    Errors: `UserError` for a damaged file, a line that is not JSON, a missing or non-text column, an id
    that is no string or whole number, or an input without documents.
    """
    if kind not in get_args(Format):
        raise UserError(f"There is no format '{kind}': choose one of {', '.join(get_args(Format))}.")
    counter = itertools.count()
    if kind == "folder":
        rows: Iterator[Row] = itertools.chain.from_iterable(
            _read_file(member, suffix_format(member.name) or "jsonl", columns, counter)
            for member in members_of(path)
        )
    elif kind == "saved data set":
        rows = _read_saved(path, columns, counter)
    else:
        rows = _read_file(path, kind, columns, counter)
    return _not_empty(rows, str(path))


def read_hub(hub: HubDataset, columns: Columns) -> Iterator[Row]:
    """All documents of one split of a hub data set at its pinned commit, streamed."""
    with hub_stream(hub) as (stream, where):
        rows = itertools.islice(read_records(stream, columns, where), hub.max_documents)
        yield from _not_empty(rows, where)


@contextmanager
def hub_stream(hub: HubDataset) -> Iterator[tuple[Iterable[dict[str, Any]], str]]:
    """The records of one split of a hub data set at its pinned commit, and its name in words.

    What goes wrong while they are read inside the block is a `UserError`.
    """
    import datasets

    where = f"{hub.name}{f' ({hub.config})' if hub.config else ''} at {hub.revision}"
    try:
        yield (
            datasets.load_dataset(
                hub.name, hub.config, split=hub.split, revision=hub.revision, streaming=True
            ),
            where,
        )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"The data set {where} cannot be read ({reason}): check its name, config, split and the network."
        ) from error


def read_records(records: Iterable[dict[str, Any]], columns: Columns, where: str) -> Iterator[Row]:
    """Rows of a stream of records that all have the same columns, such as a streamed data set."""
    counter = itertools.count()
    make: Callable[[dict[str, Any], str], Row] | None = None
    for number, record in enumerate(records):
        if make is None:
            make = row_maker(choose_columns(list(record), columns, where), columns, counter)
        yield make(record, f"document {number} of {where}")


def choose_columns(present: list[str], columns: Columns, where: str) -> ChosenColumns:
    """The columns named in `columns`, or else those with a usual name. `UserError` lists what there is."""
    listed = ", ".join(present)

    def find(wanted: str | None, usual: tuple[str, ...], what: str) -> str | None:
        if wanted is None:
            return next((name for name in usual if name in present), None)
        if wanted not in present:
            raise UserError(f"{where} has no column '{wanted}' for the {what}: its columns are {listed}.")
        return wanted

    text = find(columns.text, TEXT_NAMES, "text")
    if text is None and {"blob_id", "length_bytes"} <= set(present):
        raise UserError(
            f"{where} holds no text but pointers (blob_id) into Software Heritage's archive: fetch the "
            f"files first and give them as a data set with a text column."
        )
    if text is None:
        raise UserError(f"{where} has no text column: set input.text to one of its columns, {listed}.")
    return ChosenColumns(
        text, find(columns.id, ID_NAMES, "ids"), find(columns.domain, DOMAIN_NAMES, "domains")
    )


def row_maker(
    chosen: ChosenColumns, columns: Columns, counter: Iterator[int]
) -> Callable[[dict[str, Any], str], Row]:
    """What makes a `Row` of a record and of where it stands; `UserError` for what cannot be one."""

    def make(record: dict[str, Any], where: str) -> Row:
        position = next(counter)
        if chosen.text not in record:
            raise UserError(f"{where} has no '{chosen.text}': its columns are {', '.join(record)}.")
        text = record[chosen.text]
        if text is not None and not isinstance(text, str):
            raise UserError(
                f"{where} has a {json_type(text)} in '{chosen.text}' where text is needed: "
                f"convert it or set input.text to another column."
            )
        unit_id, id_type = f"row-{position:08d}", "position"
        if chosen.id is not None:
            value = record.get(chosen.id)
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise UserError(
                    f"{where} has a {json_type(value)} in '{chosen.id}': give every document "
                    f"a string or whole number."
                )
            unit_id, id_type = str(value), type(value).__name__
        domain = record.get(chosen.domain) if chosen.domain is not None else None
        if domain is not None and (isinstance(domain, bool) or not isinstance(domain, str | int)):
            raise UserError(
                f"{where} has a {json_type(domain)} in '{chosen.domain}' where a domain's name is needed."
            )
        row = Row(unit_id, columns.default_domain if domain is None else str(domain), text or "", id_type)
        try:
            "".join(row).encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"{where} holds half a character ({error.object[error.start]!r}): repair the text."
            ) from error
        return row

    return make


def json_type(value: Any) -> str:
    """What JSON calls a value's type."""
    names = {
        dict: "object",
        list: "list",
        bool: "boolean",
        int: "number",
        float: "number",
        type(None): "null",
    }
    return names.get(type(value), type(value).__name__)


def _not_empty(rows: Iterator[Row], where: str) -> Iterator[Row]:
    first = next(rows, None)
    if first is None:
        raise UserError(f"{where} holds no documents: give one that does.")
    yield first
    yield from rows


def suffix_format(name: str) -> Format | None:
    """The format that a file's name tells; None if it tells none."""
    return next((found for suffix, found in _SUFFIXES.items() if name.lower().endswith(suffix)), None)


def members_of(folder: Path) -> list[Path]:
    """The files of a folder that can be read, sorted. `UserError` if there is none."""
    members = sorted(path for path in folder.iterdir() if path.is_file() and suffix_format(path.name))
    if not members:
        raise UserError(f"{folder} is neither a saved data set nor a folder of {', '.join(_SUFFIXES)} files.")
    return members


def _read_file(path: Path, kind: Format, columns: Columns, counter: Iterator[int]) -> Iterator[Row]:
    if kind == "parquet":
        yield from _read_parquet(path, columns, counter)
        return
    make: Callable[[dict[str, Any], str], Row] | None = None
    for where, record in json_lines(path, kind, "flat JSON object"):
        if make is None:
            make = row_maker(choose_columns(list(record), columns, str(path)), columns, counter)
        yield make(record, where)


def json_lines(path: Path, kind: Format, shape: str = "JSON object") -> Iterator[tuple[str, dict[str, Any]]]:
    """Where a line stands, in words for the user, and the record that it holds.

    Args:
        shape: what a line that is nested too deeply should be instead.
    """
    for number, line in enumerate(_lines(path, kind), 1):
        if not line.strip():
            continue
        where = f"line {number} of {path}"
        try:
            record = json.loads(line)
        except ValueError as error:  # also bytes that are not UTF-8
            raise UserError(f"{where} is not JSON ({error}): write one JSON object a line.") from error
        except RecursionError as error:
            raise UserError(f"{where} is nested too deeply: write one {shape} a line.") from error
        if not isinstance(record, dict):
            raise UserError(f"{where} is a JSON {json_type(record)}: write one JSON object a line.")
        yield where, record


def _lines(path: Path, kind: Format) -> Iterator[bytes]:
    try:
        if kind == "jsonl.zst":
            yield from _zstd_lines(path)
        elif kind == "jsonl.gz":
            with gzip.open(path, "rb") as file:
                yield from file
        else:
            with path.open("rb") as file:
                yield from file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is damaged or not a gzip file ({error}): write it again.") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}.") from error


def _zstd_lines(path: Path) -> Iterator[bytes]:
    import zstandard

    # The stream reader takes a file cut short for its end; the frame object tells.
    frame = zstandard.ZstdDecompressor().decompressobj()
    held, fresh = b"", True
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                while chunk:
                    if frame.eof:
                        frame = zstandard.ZstdDecompressor().decompressobj()
                    held += frame.decompress(chunk)
                    fresh = False
                    chunk = frame.unused_data if frame.eof else b""
                    *lines, held = held.split(b"\n")
                    yield from lines
    except zstandard.ZstdError as error:
        raise UserError(f"{path} is damaged or not a zstd file ({error}): write it again.") from error
    if not frame.eof and not fresh:
        raise UserError(f"{path} is damaged (it ends inside a zstd frame): write it again.")
    if held:
        yield held


def _read_parquet(path: Path, columns: Columns, counter: Iterator[int]) -> Iterator[Row]:
    with open_parquet(path) as (schema, batches):
        yield from _read_batches(schema, batches, columns, counter, str(path))


Batches = Callable[[list[str]], Iterable[pa.RecordBatch | pa.Table]]
"""Some columns of a table, in small pieces."""


@contextmanager
def open_parquet(path: Path) -> Iterator[tuple[pa.Schema, Batches]]:
    """A Parquet file; what is wrong with it while it is read inside the block is a `UserError`."""
    try:
        with pq.ParquetFile(path) as file:
            yield file.schema_arrow, lambda names: file.iter_batches(batch_size=_BATCH, columns=names)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{path} is not a readable Parquet file ({str(error).splitlines()[0]}): write it again."
        ) from error


def _read_saved(path: Path, columns: Columns, counter: Iterator[int]) -> Iterator[Row]:
    schema, batches = open_saved(path)
    yield from _read_batches(schema, batches, columns, counter, str(path))


def open_saved(path: Path) -> tuple[pa.Schema, Batches]:
    """A saved data set. `UserError` if it is none."""
    import datasets

    try:
        data = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is not a readable saved data set ({error}): save it again.") from error
    return (
        data.features.arrow_schema,
        lambda names: data.select_columns(names).with_format("arrow").iter(_BATCH),
    )


def _read_batches(
    schema: pa.Schema,
    batches: Batches,
    columns: Columns,
    counter: Iterator[int],
    where: str,
) -> Iterator[Row]:
    chosen = choose_columns(schema.names, columns, where)
    kind = schema.field(chosen.text).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise UserError(
            f"the column '{chosen.text}' of {where} holds {kind}, not text: set input.text to another column."
        )
    make = row_maker(chosen, columns, counter)
    number = 0
    for batch in batches(list(dict.fromkeys(name for name in chosen if name is not None))):
        for record in batch.to_pylist():
            yield make(record, f"row {number} of {where}")
            number += 1
