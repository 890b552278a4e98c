"""The user's output files: written whole or not at all, and never over something else."""

import json
import os
from collections.abc import Callable
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
        metadata = pq.read_schema(path).metadata or {}
        return metadata.get(IDENTITY.encode(), b"").decode() or None
        if path.suffix == ".html":
            return identity_in(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, UnicodeDecodeError):
        return None


def check_output(path: Path, suffix: str) -> None:
    """Refuse an output that could not be written, before any work is done.

    Raises:
        UserError: another suffix, or a folder that does not exist or cannot be written to.
    """
    if path.suffix != suffix:
        raise UserError(f"output={path} must end in {suffix}.")
    parent = path.absolute().parent
    if not parent.is_dir():
        raise UserError(
            f"output={path} cannot be written: the folder {path.parent} does not exist; make it first."
        )
    if not os.access(parent, os.W_OK):
        raise UserError(f"output={path} cannot be written: the folder {path.parent} is read-only.")


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
    """Let `write` fill a temporary file beside `path`, then put it in place."""
    with written(path.absolute()) as temporary:
        write(temporary)


def check_skipped(output: Path, identity: str) -> None:
    """Refuse, before any work is done, a list of skipped units that would be written over something else."""
    already_there(skipped_path(output), identity)


def skipped_path(output: Path) -> Path:
    """Where what has no score is listed."""
    return output.with_name(f"{output.stem}.skipped.parquet")


def write_scored(output: Path, table: pa.Table, skipped: pa.Table, what: str) -> None:
    """Write scores, and what was skipped beside them.

    Args:
        what: the things that were given, in words.

    Raises:
        UserError: nothing was scored.
    """
    if table.num_rows == 0:
        raise UserError(f"none of the {skipped.num_rows} {what} could be scored ({_reasons(skipped)}).")
    if skipped.num_rows:
        write_output(skipped_path(output), lambda path: pq.write_table(skipped, path))
    write_output(output, lambda path: pq.write_table(table, path))


def why_skipped(skipped: pa.Table, output: Path) -> str:
    """How many were skipped, why, and where they are listed."""
    if not skipped.num_rows:
        return "0 skipped"
    return f"{skipped.num_rows} skipped ({_reasons(skipped)}; listed in {skipped_path(output)})"


def _reasons(skipped: pa.Table) -> str:
    counts = pc.value_counts(skipped["reason"]).to_pylist()
    return ", ".join(f"{c['counts']} {c['values']}" for c in counts)
