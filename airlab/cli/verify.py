"""`airlab verify`: committed tables must still follow from the configurations at hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.errors import HydraException

from airlab.cli.bind import bind
from airlab.cli.experiment import published_targets
from airlab.cli.main import configs_folder
from airlab.cli.overrides import explain
from airlab.cli.published import published
from airlab.errors import UserError
from airlab.schema.base import Frozen
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
    """Recompute every committed table's fingerprints and compare them with its lock."""
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
    if stale:
        raise UserError(
            f"{stale} of {len(tables)} tables no longer follow from the configurations; run them again."
        )
