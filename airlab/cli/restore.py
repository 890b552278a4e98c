"""`airlab restore`: archived artifacts into the store, where they are found as if they had been made here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airlab.cli.bind import bind
from airlab.cli.outputs import open_store
from airlab.schema.base import Frozen
from airlab.store.archive import restore
from airlab.terminal import visible


class Archive(Frozen):
    """A folder that `airlab archive` made."""

    path: str


class RestoreCommand(Frozen):
    """What `configs/restore.yaml` binds to."""

    input: Archive


def run(config: Mapping[str, Any]) -> None:
    """Check all of an archive, then copy what the store does not have."""
    command, store = bind(RestoreCommand, config), open_store()
    done = restore(Path(command.input.path), store)
    counts = f"{len(done.copied)} copied, {len(done.already_there)} already there"
    print(visible(f"{command.input.path}: {counts}"))
