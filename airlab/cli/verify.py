"""`airlab verify`: committed tables must still follow from the configurations at hand."""

from pathlib import Path

from omegaconf import DictConfig

from airlab.cli.bind import bind, to_plain
from airlab.cli.experiment import published_cells
from airlab.errors import UserError
from airlab.reporting.lock import LOCK, read_lock
from airlab.schema.base import Frozen


class VerifyCommand(Frozen):
    """What `configs/verify.yaml` binds to."""

    results: str


def differences(folder: Path, experiment: str, scale: str) -> list[str]:
    """Names of a table's cells whose fingerprints no longer follow from the configuration."""
    expected = published_cells(experiment, scale)
    locked = read_lock(folder).cells
    return sorted(name for name in expected.keys() | locked.keys() if expected.get(name) != locked.get(name))


def run(config: DictConfig) -> None:
    """Recompute every committed table's fingerprints and compare them with its lock."""
    command = bind(VerifyCommand, to_plain(config))
    root = Path(command.results)
    locks = sorted(root.rglob(LOCK))
    if not locks:
        raise UserError(f"there are no committed tables below {root}; run an experiment first.")
    stale = 0
    for lock in locks:
        *experiment, scale = lock.parent.relative_to(root).parts
        name = "/".join(experiment)
        differ = differences(lock.parent, name, scale)
        stale += bool(differ)
        told = "current" if not differ else f"out of date in {len(differ)} cells, first {differ[0]}"
        print(f"{name} at scale {scale}: {told}")
    if stale:
        raise UserError(
            f"{stale} of {len(locks)} tables no longer follow from the configurations; run them again."
        )
