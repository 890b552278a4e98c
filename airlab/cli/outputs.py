"""The user's output files: written whole or not at all, and never over something else."""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airlab.errors import UserError
from airlab.reporting.token_page import identity_in
from airlab.store.durable import alone, tidy, written
from airlab.store.store import Store
from airlab.text.wheels import cache_folder

IDENTITY = "airlab_identity"
"""Where an output says what it was made from: a JSON file's or a page's key, or one of Parquet metadata."""

UNIT = "airlab_unit"
"""Where a table of scores says what its rows are, in its metadata: `document`, `trace` or `step`."""


def open_store() -> Store:
    """The artifact store: `$AIRLAB_STORE`, else a folder in the user's cache."""
    chosen = os.environ.get("AIRLAB_STORE")
    return Store(Path(chosen).expanduser() if chosen else cache_folder() / "store")


def identity_of(path: Path) -> str | None:
    """What an existing output was made from, or None if it does not say."""
    try:
        if path.suffix == ".json":
            data = json.loads(path.read_text())
            return data.get(IDENTITY) if isinstance(data, dict) else None
        if path.suffix == ".html":
            return identity_in(path.read_text(encoding="utf-8"))
        metadata = pq.read_schema(path).metadata or {}
        return metadata.get(IDENTITY.encode(), b"").decode() or None
    except (ValueError, OSError, UnicodeDecodeError):
        return None


def check_output(path: Path, suffix: str) -> None:
    """Refuse an output that could not be written, and clear away what a killed attempt left of it.

    Raises:
        UserError: another suffix, or a folder that does not exist or cannot be written to.
    """
    if path.suffix != suffix:
        raise UserError(f"output={path} must end in {suffix}.")
    check_place(path)


def check_place(path: Path) -> None:
    """The same of an output with any suffix or none."""
    parent = path.absolute().parent
    if not parent.is_dir():
        raise UserError(
            f"output={path} cannot be written: the folder {path.parent} does not exist; make it first."
        )
    if not os.access(parent, os.W_OK):
        raise UserError(f"output={path} cannot be written: the folder {path.parent} is read-only.")
    tidy(path.absolute())


def already_there(path: Path, identity: str) -> bool:
    """Whether the very same output exists.

    Raises:
        UserError: something else is there.
    """
    if not path.exists():
        return False
    if identity_of(path) == identity:
        return True
    raise UserError(
        f"{path} already exists and was made from something else (other input, model or settings); "
        "choose another output or delete it."
    )


def write_output(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place.

    Raises:
        UserError: something else was put there meanwhile, or the disk does not take it.
    """
    with alone(path.absolute()), written(path.absolute()) as temporary:
        write(temporary)
        if identity := identity_of(temporary):
            already_there(path, identity)


@dataclass(frozen=True)
class LeftOut:
    """What has no score: what was skipped, and, where broken records are quarantined, those."""

    skipped: pa.Table
    quarantined: pa.Table | None = None

    def tables(self, output: Path) -> dict[Path, pa.Table]:
        """Where each table with any rows is written."""
        tables = zip(_lists(output), (self.skipped, self.quarantined), strict=True)
        return {path: table for path, table in tables if table is not None and table.num_rows}

    @property
    def count(self) -> int:
        """How many have no score."""
        return self.skipped.num_rows + (self.quarantined.num_rows if self.quarantined is not None else 0)

    def told(self, output: Path) -> str:
        """How many were left out, why, and where they are listed."""
        skipped, quarantined = _lists(output)
        told = _listed(self.skipped, "skipped", skipped)
        if self.quarantined is None:
            return told
        return f"{told}, {_listed(self.quarantined, 'quarantined', quarantined)}"

    def reasons(self) -> str:
        """How many were left out for which reason."""
        return ", ".join(
            _reasons(t) for t in (self.skipped, self.quarantined) if t is not None and t.num_rows
        )


def check_left_out(output: Path, identity: str) -> None:
    """Refuse, before any work is done, to write a list of what has no score over something else."""
    for path in _lists(output):
        already_there(path, identity)


def _lists(output: Path) -> tuple[Path, Path]:
    """Where what was skipped and what was quarantined is listed."""
    skipped, quarantined = (output.with_name(f"{output.stem}.{w}.parquet") for w in ("skipped", "quarantine"))
    return skipped, quarantined


def write_scored(
    output: Path, tables: Iterable[pa.Table], facts: dict[str, str], left_out: LeftOut, what: str
) -> None:
    """Write scores, and what was left out beside them.

    Args:
        tables: the scores, in parts that need not fit in memory together.
        facts: what the file says of itself.
        what: the things that were given, in words.

    Raises:
        UserError: nothing was scored.
    """
    parts = iter(tables)
    if (first := next(parts, None)) is None or not first.num_rows:
        raise UserError(f"none of the {left_out.count} {what} could be scored ({left_out.reasons()}).")
    for where, rows in left_out.tables(output).items():
        write_output(where, partial(pq.write_table, rows))

    def write(path: Path) -> None:
        with pq.ParquetWriter(path, first.schema.with_metadata(facts)) as writer:
            for part in chain([first], parts):
                writer.write_table(part)

    write_output(output, write)


def _listed(table: pa.Table, how: str, where: Path) -> str:
    if not table.num_rows:
        return f"0 {how}"
    return f"{table.num_rows} {how} ({_reasons(table)}; listed in {where})"


def _reasons(table: pa.Table) -> str:
    counts = pc.value_counts(table["reason"]).to_pylist()
    return ", ".join(f"{c['counts']} {c['values']}" for c in counts)
