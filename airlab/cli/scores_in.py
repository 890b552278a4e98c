"""Tables of scores as `airlab score` wrote them, read back as what selectors see."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airlab.cli.outputs import UNIT
from airlab.errors import UserError
from airlab.selection.needs import CuratedOrder, Need
from airlab.selection.units import Columns, Units, not_measured

_COLUMNS: dict[str, Callable[[pa.DataType], bool]] = {
    "id": pa.types.is_string,
    "domain": pa.types.is_string,
    "n_tokens": pa.types.is_integer,
    "loss_base": pa.types.is_floating,
    "loss_ref": pa.types.is_floating,
    "entropy": pa.types.is_floating,
    "attention_influence": pa.types.is_floating,
}

_OF_STEPS: dict[str, Callable[[pa.DataType], bool]] = {
    "trace": pa.types.is_string,
    "start": pa.types.is_integer,
    "end": pa.types.is_integer,
}


class Scores(NamedTuple):
    """A checked table, and what selectors see of it."""

    table: pa.Table
    units: Units
    what: str
    """What its rows are, in words: documents, traces or steps."""


def read_scores(path: Path, *, of_steps: bool) -> Scores:
    """A table of documents or traces, or one of steps.

    Raises:
        UserError: the file is missing, or not a whole table of that kind.
    """
    unit = " unit=step" if of_steps else ""
    made_by = f"give a table made by `airlab score{unit}`"
    if not path.is_file():
        raise UserError(f"scores={path} does not exist; make it with `airlab score{unit} output={path}`.")
    table = read_table(path, made_by)
    what = f"{(table.schema.metadata or {}).get(UNIT.encode(), b'document').decode()}s"
    if what == "steps" and not of_steps:
        raise UserError(
            f"{path} holds scores of steps, and whole traces are selected: score them with `airlab score "
            "unit=trace`, or give the steps weights with `airlab weigh`."
        )
    check_columns(path, table, {**_COLUMNS, **(_OF_STEPS if of_steps else {})}, made_by)
    if table.num_rows == 0:
        raise UserError(f"{path} holds no {what}; nothing can be selected or weighed.")
    counts = pc.value_counts(table["id"])
    if len(counts) < table.num_rows:
        twice = next(c["values"] for c in counts.to_pylist() if c["counts"] > 1)
        raise UserError(
            f"{path} holds the id '{twice}' more than once; give every one of the {what} its own."
        )
    return Scores(table, _units(table), what)


def read_table(path: Path, made_by: str) -> pa.Table:
    """A Parquet file. `UserError` if it is none."""
    try:
        return pq.read_table(path)
    except (pa.ArrowInvalid, OSError):
        raise UserError(f"{path} is not a Parquet file; {made_by}.") from None


def check_columns(
    path: Path, table: pa.Table, columns: dict[str, Callable[[pa.DataType], bool]], made_by: str
) -> None:
    """Refuse a table that lacks a column or a value, or holds something else.

    Args:
        columns: by name, what tells the right types.
        made_by: what to give instead.
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
            row = column.is_null().index(True).as_py()
            raise UserError(f"{path} has no {name} in row {row}; {made_by}.")


def _units(table: pa.Table) -> Units:
    c = {name: table[name].to_numpy(zero_copy_only=False) for name in _COLUMNS}
    n = c["n_tokens"]

    def measured(need: Need) -> Columns:
        if isinstance(need, CuratedOrder) and "order" in table.column_names:
            return {"order": table["order"].to_numpy(zero_copy_only=False).astype(np.float64)}
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
