"""`airlab verify`: committed tables still follow from the configurations, and archives are whole."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.errors import HydraException

from airlab.cli.archive import archives
from airlab.cli.bind import bind
from airlab.cli.experiment import published_targets
from airlab.cli.main import configs_folder
from airlab.cli.overrides import explain
from airlab.cli.published import published
from airlab.errors import UserError
from airlab.schema.base import Frozen
from airlab.store.archive import archived_folders, read_archived
from airlab.store.packed import unpacked
from airlab.terminal import visible


class VerifyCommand(Frozen):
    """What `configs/verify.yaml` binds to."""

    results: str


def differences(locked: Mapping[str, str], experiment: str, scale: str) -> list[str]:
    """Names of a table's cells whose fingerprints no longer follow from the configuration."""
    try:
        expected = published_targets(experiment, scale)
    except HydraException as error:
        raise UserError(f"{experiment}/{scale}: {explain(error, configs_folder(), 'run')}") from error
    return sorted(name for name in expected.keys() | locked.keys() if expected.get(name) != locked.get(name))


def run(config: Mapping[str, Any]) -> None:
    """Compare tables' locks with the configurations' fingerprints, and archived artifacts with records."""
    command = bind(VerifyCommand, config)
    root = Path(command.results)
    tables = published(root)
    stale = 0
    for folder, lock in tables.items():
        *experiment, scale = folder.relative_to(root).parts
        name = "/".join(experiment)
        differ = differences(lock.cells, name, scale)
        stale += bool(differ)
        told = "current" if not differ else f"out of date in {len(differ)} cells, first {differ[0]}"
        print(visible(f"{name} at scale {scale}: {told}"))
    mistakes = []
    if stale:
        mistakes.append(
            f"{stale} of {len(tables)} tables no longer follow from the configurations; run them again."
        )
    files = archives(root)
    if damaged := [file for file in files if not _is_whole(file)]:
        mistakes.append(f"{len(damaged)} of {len(files)} archives are damaged, first {damaged[0]}.")
    if mistakes:
        raise UserError(" ".join(mistakes))


def _is_whole(archive: Path) -> bool:
    """Check every artifact of an archive, and print how many there are, or what is wrong with the first."""
    try:
        with unpacked(archive) as folder:
            count = len([read_archived(artifact) for artifact in archived_folders(folder)])
    except UserError as error:
        print(visible(str(error)))
        return False
    print(visible(f"{archive}: {count} artifacts, all whole"))
    return True
