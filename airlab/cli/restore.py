"""`airlab restore`: archived artifacts into the store, where they are found as if they had been made here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airlab.cli.archive import archives
from airlab.cli.bind import bind
from airlab.cli.experiment import ARCHIVE
from airlab.cli.outputs import open_store
from airlab.errors import UserError
from airlab.schema.base import Frozen
from airlab.store.archive import restore
from airlab.store.packed import unpacked
from airlab.terminal import visible


class RestoreCommand(Frozen):
    """What `configs/restore.yaml` binds to."""

    results: str
    """The folder of results below which archives lie."""


def run(config: Mapping[str, Any]) -> None:
    """Of every archive: check all of it, then copy what the store does not have."""
    root, store = Path(bind(RestoreCommand, config).results), open_store()
    files = archives(root)
    if not files:
        raise UserError(f"there is no {ARCHIVE} below {root}; airlab archive makes one.")
    for file in files:
        with unpacked(file) as folder:
            done = restore(folder, store)
        print(visible(f"{file}: {len(done.copied)} restored, {len(done.already_there)} there already"))
