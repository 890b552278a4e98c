"""The user's output files: written whole or not at all, and never over something else."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from airlab.errors import UserError
from airlab.store.durable import written
from airlab.store.store import Store
from airlab.text.wheels import cache_folder

IDENTITY = "airlab_identity"
"""Where an output says what it was made from: a key of a JSON file, or of a Parquet file's metadata."""


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
