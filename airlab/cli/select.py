"""`airlab select`: the best share of scored documents."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airlab.cli.bind import bind
from airlab.cli.outputs import IDENTITY, already_there, check_output, write_output
from airlab.errors import UserError
from airlab.schema.base import Frozen
from airlab.schema.selection import Selecting
from airlab.selection.select import select
from airlab.selection.selectors import make_selector
from airlab.selection.units import Units
from airlab.store.files import Files
from airlab.store.fingerprint import canonical

_COLUMNS: dict[str, Callable[[pa.DataType], bool]] = {
    "id": pa.types.is_string,
    "domain": pa.types.is_string,
    "n_tokens": pa.types.is_integer,
    "loss_base": pa.types.is_floating,
    "loss_ref": pa.types.is_floating,
    "entropy": pa.types.is_floating,
}


class SelectCommand(Frozen):
    """What `configs/select.yaml` binds to."""

    scores: str
    selector: dict[str, Any]
    share: float
    unit: str
    scope: str
    seed: int
    output: str


def run(config: Mapping[str, Any]) -> None:
    """Select and write the chosen rows with their scores."""
    command = bind(SelectCommand, config)
    output, scores = Path(command.output), Path(command.scores)
    check_output(output, ".parquet")
    selecting = bind(Selecting, {"share": command.share, "unit": command.unit, "scope": command.scope})
    selector = make_selector(command.selector)
    units = _read(scores)
    identity = hashlib.sha256(canonical((Files.of(scores), selector, selecting, command.seed))).hexdigest()
    if already_there(output, identity):
        print(f"{output} is there already, made from the same scores and settings.")
        return
    score = selector.score(units, command.seed)
    chosen = select(units.unit_id, units.domain, units.n_tokens, score, selecting)
    table = pa.table(
        {
            "id": units.unit_id[chosen],
            "domain": units.domain[chosen],
            "n_tokens": units.n_tokens[chosen],
            "score": score[chosen],
        }
    ).replace_schema_metadata({IDENTITY: identity})
    write_output(output, lambda path: pq.write_table(table, path))
    _report(output, units, chosen)


def _read(path: Path) -> Units:
    if not path.is_file():
        raise UserError(f"scores={path} does not exist; make it with `airlab score output={path}`.")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError):
        raise UserError(f"{path} is not a Parquet file; give a table made by `airlab score`.") from None
    missing = [c for c in _COLUMNS if c not in table.column_names]
    if missing:
        raise UserError(
            f"{path} has no column {missing[0]} (it has {', '.join(table.column_names)}); "
            "give a table made by `airlab score`."
        )
    if table.num_rows == 0:
        raise UserError(f"{path} holds no documents; nothing can be selected.")
    for name, kind in _COLUMNS.items():
        column = table[name].combine_chunks()
        if not kind(column.type):
            raise UserError(
                f"the column {name} of {path} holds {column.type}; give a table made by `airlab score`."
            )
        if column.null_count:
            row = column.is_null().index(True).as_py()
            raise UserError(f"{path} has no {name} in row {row}; give a table made by `airlab score`.")
    counts = pc.value_counts(table["id"])
    if len(counts) < table.num_rows:
        twice = next(c["values"] for c in counts.to_pylist() if c["counts"] > 1)
        raise UserError(f"{path} holds the id '{twice}' more than once; give every document its own.")
    c = {name: table[name].to_numpy(zero_copy_only=False) for name in _COLUMNS}
    n = c["n_tokens"]
    return Units(c["id"], c["domain"], n, c["loss_base"] * n, c["loss_ref"] * n, c["entropy"] * n)


def _report(output: Path, units: Units, chosen: np.ndarray) -> None:
    for domain in np.unique(units.domain):
        inside = units.domain == domain
        tokens = units.n_tokens[inside & chosen].sum(), units.n_tokens[inside].sum()
        print(
            f"{domain}: {int((inside & chosen).sum())} of {int(inside.sum())} documents, "
            f"{tokens[0]} of {tokens[1]} tokens"
        )
    print(f"{output}: {int(chosen.sum())} of {len(units)} documents")
