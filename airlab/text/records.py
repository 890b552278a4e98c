"""Records of files: JSON lines (plain, gzip, zstd), Parquet, a saved data set. Everything is streamed.

A record that is broken by itself comes out as what is wrong with it, in its place, and those after it follow.
A file that cannot be trusted as a whole is a `UserError`.
"""

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from airlab.errors import UserError
from airlab.text.quarantine import Broken, Place

Format = Literal["jsonl", "jsonl.gz", "jsonl.zst", "parquet", "folder", "saved data set"]

_SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonl.gz": "jsonl.gz",
    ".ndjson.gz": "jsonl.gz",
    ".jsonl.zst": "jsonl.zst",
    ".ndjson.zst": "jsonl.zst",
    ".parquet": "parquet",
}
_OTHER_TABLES = (".csv", ".tsv", ".arrow", ".jsonl.xz", ".jsonl.bz2", ".csv.gz", ".tsv.gz")
"""Files that hold documents too, in formats that are not read; what describes a folder has other names."""
_BATCH = 256
_LONGEST_LINE = 64 << 20
"""Bytes. A longer line is broken: it would have to be in memory several times over to be read."""
_CHUNK_BYTES = 1 << 10
"""Compressed bytes decompressed at once: zstd makes at most 32 MiB of so many, whatever they are."""


Read = tuple[Place, dict[str, Any] | Broken]
"""Where a record stands, and its columns or why it has none."""


def format_of(path: Path) -> Format:
    """How to read the file or folder, by its suffix or its contents. `UserError` for anything else."""
    if not path.exists():
        raise UserError(f"{path} does not exist: check the path.")
    if path.is_dir():
        if (path / "dataset_dict.json").exists():
            splits = ", ".join(sorted(p.name for p in path.iterdir() if (p / "state.json").exists()))
            raise UserError(f"{path} holds several splits ({splits}): give the folder of one of them.")
        if (path / "state.json").exists():
            return "saved data set"
        refuse_left_out(path, members_of(path))
        return "folder"
    found = suffix_format(path.name)
    if found is None:
        raise UserError(
            f"{path} is of an unknown type: give a {', '.join(_SUFFIXES)} file or a saved data set."
        )
    if not path.is_file():
        raise UserError(f"{path} is no file that can be read twice (a pipe or a device): give a file.")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty: give a file with documents.")
    return found


def suffix_format(name: str) -> Format | None:
    """The format that a file's name tells; None if it tells none."""
    return next((found for suffix, found in _SUFFIXES.items() if name.lower().endswith(suffix)), None)


def members_of(folder: Path) -> list[Path]:
    """The files of a folder that can be read, sorted. `UserError` if there is none."""
    members = sorted(path for path in folder.iterdir() if path.is_file() and suffix_format(path.name))
    if not members:
        raise UserError(f"{folder} is neither a saved data set nor a folder of {', '.join(_SUFFIXES)} files.")
    return members


def is_text(kind: pa.DataType) -> bool:
    """Whether a column's type is one of Arrow's for strings: libraries differ in which they write."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def refuse_left_out(folder: Path, members: Iterable[Path]) -> None:
    """Refuse a folder with files of documents besides `members`, read or not; hidden ones do not count.

    Raises:
        UserError: it names the first.
    """
    read = set(members)
    for path in sorted(folder.rglob("*")):
        within = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in within.parts)
        holds_documents = suffix_format(path.name) or path.name.lower().endswith(_OTHER_TABLES)
        if path not in read and not hidden and path.is_file() and holds_documents:
            raise UserError(
                f"{within} in {folder} would be left out: give it by itself, convert it or move it."
            )


def json_lines(source: Place, kind: Format, shape: str = "JSON object") -> Iterator[Read]:
    """The record of every line that is not blank.

    Args:
        source: the file.
        shape: what a line that is nested too deeply should be instead.
    """
    for number, offset, line in _lines(Path(source.source), kind):
        if line is not None and not line.strip():
            continue
        place = Place(source.source, source.member, "line", number, offset)
        if line is None:
            told = f"is longer than {_LONGEST_LINE >> 20} MiB: divide the document."
            yield place, Broken(place, "a line too long", told)
        else:
            yield place, _object(line, place, shape)


def _object(line: bytes, place: Place, shape: str) -> dict[str, Any] | Broken:
    try:
        record = json.loads(line)
    except UnicodeDecodeError as error:
        return Broken(place, "not UTF-8", f"is not JSON ({error}): write it as UTF-8.")
    except ValueError as error:
        return Broken(place, "not JSON", f"is not JSON ({error}): write one JSON object a line.")
    except RecursionError:
        return Broken(place, "nested too deeply", f"is nested too deeply: write one {shape} a line.")
    if not isinstance(record, dict):
        told = f"is a JSON {json_type(record)}: write one JSON object a line."
        return Broken(place, "no JSON object", told)
    return record


def _lines(path: Path, kind: Format) -> Iterator[tuple[int, int, bytes | None]]:
    """Every line with its number, from 1, and the byte at which it begins; None for one that is too long."""
    try:
        with _opened(path, kind) as file:
            number = offset = 0
            while line := file.readline(_LONGEST_LINE + 1):
                number += 1
                if len(line) <= _LONGEST_LINE:
                    yield number, offset, line
                    offset += len(line)
                    continue
                yield number, offset, None
                offset += len(line)
                while not line.endswith(b"\n") and (line := file.readline(1 << 20)):
                    offset += len(line)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is damaged or not a gzip file ({error}): write it again.") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}.") from error


def _opened(path: Path, kind: Format) -> BinaryIO:
    if kind == "jsonl.zst":
        return io.BufferedReader(_ZstdFile(path), 1 << 20)
    return gzip.open(path, "rb") if kind == "jsonl.gz" else path.open("rb")  # type: ignore[return-value]


class _ZstdFile(io.RawIOBase):
    """The decompressed bytes of all frames of a file; `UserError` where it is damaged or cut short."""

    def __init__(self, path: Path) -> None:
        import zstandard

        self._path, self._file = path, path.open("rb")
        self._zstandard = zstandard
        # The library's own stream reader takes a file cut short for its end; the frame object tells.
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._fresh = True
        self._compressed = self._held = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held:
            self._compressed = self._compressed or self._file.read(_CHUNK_BYTES)
            if not self._compressed:
                if self._fresh:
                    return 0
                raise UserError(f"{self._path} is damaged (it ends inside a zstd frame): write it again.")
            try:
                self._held = self._frame.decompress(self._compressed)
            except self._zstandard.ZstdError as error:
                raise UserError(
                    f"{self._path} is damaged or not a zstd file ({error}): write it again."
                ) from error
            self._fresh = self._frame.eof
            self._compressed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = self._zstandard.ZstdDecompressor().decompressobj()
        size = min(len(buffer), len(self._held))
        buffer[:size], self._held = self._held[:size], self._held[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


class Lost(NamedTuple):
    """Rows of a table that cannot be read, while those around them can."""

    rows: int
    error: str


Batch: TypeAlias = pa.RecordBatch | pa.Table | Lost
Batches = Callable[[list[str]], Iterable[Batch]]
"""Some columns of a table, in small pieces."""

_ROWS_OF_A_BYTE = 1 << 16
"""More than a table of the same row over and over has, packed."""


@contextmanager
def open_parquet(path: Path) -> Iterator[tuple[pa.Schema, Batches]]:
    """A Parquet file. `UserError` if it cannot be opened; its row groups are lost one by one."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except _UNREADABLE as error:
        raise UserError(
            f"{path} is not a readable Parquet file ({_first_line(error)}): write it again."
        ) from error
    with file:
        if contradicts_itself(file.metadata, path.stat().st_size):
            raise UserError(
                f"{path} is not a readable Parquet file (its footer contradicts itself): write it again."
            )
        yield file.schema_arrow, lambda names: row_groups(file, names, range(file.num_row_groups))


def contradicts_itself(footer: pq.FileMetaData, size: int) -> bool:
    """Whether its numbers of rows disagree, or are more than a file of `size` bytes can hold."""
    rows = [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]
    most = _ROWS_OF_A_BYTE * size
    return sum(rows) != footer.num_rows or min(rows, default=0) < 0 or footer.num_rows > most


def row_groups(file: pq.ParquetFile, names: list[str], groups: Iterable[int]) -> Iterator[Batch]:
    """Some columns of some row groups, in small pieces; what of a group cannot be read is lost."""
    for group in groups:
        missing, error = file.metadata.row_group(group).num_rows, "it ends early"
        try:
            for batch in file.iter_batches(_BATCH, row_groups=[group], columns=names):
                missing -= batch.num_rows
                yield batch
        except _UNREADABLE as found:
            error = _first_line(found)
        if missing:
            yield Lost(missing, error)


_UNREADABLE = (pa.ArrowException, OSError, ValueError)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def table_records(batches: Batches, source: Place, names: list[str], first: int = 0) -> Iterator[Read]:
    """The rows of a table, those that cannot be read among them; `first` is the number of the first."""
    number = first
    for batch in batches(names):
        if isinstance(batch, Lost):
            told = f"lies where the file cannot be read ({batch.error}): write it again."
            for lost in range(number, number + batch.rows):
                place = source._replace(unit="row", number=lost)
                yield place, Broken(place, "an unreadable row group", told)
            number += batch.rows
            continue
        for record in _values(batch):
            place = Place(source.source, source.member, "row", number)
            number += 1
            if isinstance(record, Exception):
                told = f"holds what cannot be read ({_first_line(record)}): write it again."
                yield place, Broken(place, "an unreadable row", told)
            else:
                yield place, record


def _values(batch: pa.RecordBatch | pa.Table) -> list[dict[str, Any] | Exception]:
    """Python's values of each row, or why it has none: damaged text, or a date that Python does not know."""
    try:
        return batch.to_pylist()
    except _NO_VALUE:
        return [_value(batch.slice(row, 1)) for row in range(batch.num_rows)]


def _value(row: pa.RecordBatch | pa.Table) -> dict[str, Any] | Exception:
    try:
        return row.to_pylist()[0]
    except _NO_VALUE as error:
        return error


_NO_VALUE = (ValueError, OverflowError, pa.ArrowException)


def all_broken(batches: Batches, source: Place, found: Broken) -> Iterator[Read]:
    """Every row of a table whose columns are not those that are needed."""
    for place, record in table_records(batches, source, []):
        yield place, record if isinstance(record, Broken) else found.of(place)


def two_columns(source: Place, name: str) -> Broken:
    """What is wrong with a table that has a needed column twice."""
    return Broken(source, "two columns of one name", f"has two columns '{name}': rename one of them.")


def open_saved(path: Path) -> tuple[pa.Schema, Batches]:
    """A saved data set. `UserError` if it is none."""
    import datasets

    try:
        data = datasets.load_from_disk(str(path))
    except (*_UNREADABLE, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a readable saved data set ({error}): save it again.") from error
    return (
        data.features.arrow_schema,
        lambda names: data.select_columns(names).with_format("arrow").iter(_BATCH),
    )


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
