"""Tables of scores as `airlab score` wrote them, read back as what selectors see."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airlab.cli.outputs import UNIT
from airlab.errors import UserError
from airlab.selection.needs import CuratedOrder, Need
from airlab.selection.units import Columns, Units, not_measured
from airlab.text.records import contradicts_itself, is_text

_COLUMNS: dict[str, Callable[[pa.DataType], bool]] = {
    "id": is_text,
    "domain": is_text,
    "n_tokens": pa.types.is_integer,
    "loss_base": pa.types.is_floating,
    "loss_ref": pa.types.is_floating,
    "entropy": pa.types.is_floating,
    "attention_influence": pa.types.is_floating,
}

_ORDER = "order"
"""The curators' order of traces, where there is one."""

_OF_STEPS: dict[str, Callable[[pa.DataType], bool]] = {
    "trace": is_text,
    "start": pa.types.is_integer,
    "end": pa.types.is_integer,
}


_ROWS = 1 << 13
"""Rows in memory at once, where a table is read in parts."""

_MOST_TOKENS = 1 << 40
"""Of one unit: sums over all units stay exact."""


class Scores(NamedTuple):
    """A checked table, and what selectors see of it."""

    table: pa.Table
    units: Units
    what: str
    """What its rows are, in words: documents, traces or steps."""


class ScoresInParts(NamedTuple):
    """A table of documents or traces that is checked as it is read."""

    parts: Callable[[bool], Iterator[Units]]
    """What selectors see, in the order of the rows; all at once if asked for."""
    what: str


def read_scores(path: Path, *, of_steps: bool) -> Scores:
    """A table of documents or traces, or one of steps.

    Raises:
        UserError: the file is missing, or not a whole table of that kind.
    """
    with _open(path, of_steps=of_steps) as (file, what, made_by):
        table = _read(path, file.read, made_by)
        _check_whole(path, file, table.num_rows, made_by)
    check_columns(path, table, {**_COLUMNS, **(_OF_STEPS if of_steps else {})}, made_by)
    counts = pc.value_counts(table["id"])
    if len(counts) < table.num_rows:
        refuse_repeated(path, next(c["values"] for c in counts.to_pylist() if c["counts"] > 1), what)
    return Scores(table, _units(path, table, 0), what)


@contextmanager
def scores_in_parts(path: Path) -> Iterator[ScoresInParts]:
    """A table of documents or traces, of any size; ids may be repeated in different parts.

    Raises:
        UserError: the file is missing, or not a whole table of that kind; some of it only while it is read.
    """
    with _open(path, of_steps=False) as (file, what, made_by):
        names = [name for name in (*_COLUMNS, _ORDER) if name in file.schema_arrow.names]

        def parts(whole: bool) -> Iterator[Units]:
            first = 0
            batches = file.iter_batches(file.metadata.num_rows if whole else _ROWS, columns=names)
            while (batch := _read(path, lambda: next(batches, None), made_by)) is not None:
                table = pa.Table.from_batches([batch])
                check_columns(path, table, _COLUMNS, made_by, first)
                yield _units(path, table, first)
                first += table.num_rows
            _check_whole(path, file, first, made_by)

        yield ScoresInParts(parts, what)


def refuse_repeated(path: Path, unit_id: str, what: str) -> NoReturn:
    """Refuse a table in which two rows have one id.

    Raises:
        UserError: always.
    """
    raise UserError(f"{path} holds the id '{unit_id}' more than once; give every one of the {what} its own.")


@contextmanager
def _open(path: Path, *, of_steps: bool) -> Iterator[tuple[pq.ParquetFile, str, str]]:
    """The file, what its rows are, and what to give instead."""
    unit = " unit=step" if of_steps else ""
    made_by = f"give a table made by `airlab score{unit}`"
    if not path.is_file():
        raise UserError(f"scores={path} does not exist; make it with `airlab score{unit} output={path}`.")
    with _read(path, lambda: pq.ParquetFile(path, buffer_size=1 << 20), made_by) as file:
        if contradicts_itself(file.metadata, path.stat().st_size):
            raise UserError(f"{path} is not a Parquet file; {made_by}.")
        told = (file.schema_arrow.metadata or {}).get(UNIT.encode(), b"document").decode(errors="replace")
        what = f"{told}s"
        if what == "steps" and not of_steps:
            raise UserError(
                f"{path} holds scores of steps, and whole traces are selected: score them with `airlab score "
                "unit=trace`, or give the steps weights with `airlab weigh`."
            )
        columns = {**_COLUMNS, **(_OF_STEPS if of_steps else {})}
        check_columns(path, file.schema_arrow.empty_table(), columns, made_by)
        if file.metadata.num_rows == 0:
            raise UserError(f"{path} holds no {what}; nothing can be selected or weighed.")
        yield file, what, made_by


def _check_whole(path: Path, file: pq.ParquetFile, rows: int, made_by: str) -> None:
    """Refuse a file of fewer rows than its footer says: Parquet's reader ends without a word."""
    if rows != file.metadata.num_rows:
        raise UserError(f"{path} holds {rows:,} of its {file.metadata.num_rows:,} rows; {made_by}.")


def _read(path: Path, read: Callable[[], Any], made_by: str) -> Any:
    try:
        return read()
    except (pa.ArrowException, OSError):
        raise UserError(f"{path} is not a Parquet file; {made_by}.") from None


def read_table(path: Path, made_by: str) -> pa.Table:
    """A Parquet file. `UserError` if it is none."""
    return _read(path, lambda: pq.read_table(path), made_by)


def check_columns(
    path: Path,
    table: pa.Table,
    columns: dict[str, Callable[[pa.DataType], bool]],
    made_by: str,
    first: int = 0,
) -> None:
    """Refuse a table that lacks a column or a value, or holds something else.

    Args:
        columns: by name, what tells the right types.
        made_by: what to give instead.
        first: where the table begins in the file.
    """
    missing = [c for c in columns if c not in table.column_names]
    if missing:
        raise UserError(
            f"{path} has no column {missing[0]} (it has {', '.join(table.column_names)}); {made_by}."
        )
    for name, kind in columns.items():
        column = table[name].combine_chunks()
        if not kind(column.type):
            raise UserError(f"the column {name} of {path} holds {column.type}; {made_by}.")
        if column.null_count:
            row = first + column.is_null().index(True).as_py()
            raise UserError(f"{path} has no {name} in row {row}; {made_by}.")


def _units(path: Path, table: pa.Table, first: int) -> Units:
    c = {name: table[name].to_numpy(zero_copy_only=False) for name in _COLUMNS}
    n = c["n_tokens"]
    if len(wrong := np.flatnonzero((n < 1) | (n > _MOST_TOKENS))):
        raise UserError(
            f"{path} has {n[wrong[0]]} for n_tokens in row {first + wrong[0]}, which no text has; "
            "give a table made by `airlab score`."
        )

    def measured(need: Need) -> Columns:
        if isinstance(need, CuratedOrder) and _ORDER in table.column_names:
            return {"order": table[_ORDER].to_numpy(zero_copy_only=False).astype(np.float64)}
        return not_measured(need)

    return Units(
        c["id"],
        c["domain"],
        n,
        c["loss_base"] * n,
        c["loss_ref"] * n,
        c["entropy"] * n,
        measured=measured,
        # A trace's is an aggregation over steps that the table does not hold.
        formula=lambda _: c["attention_influence"],
    )
