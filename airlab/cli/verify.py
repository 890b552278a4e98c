"""`airlab verify`: committed tables must still follow from the configurations at hand."""

from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from airlab.cli.bind import bind, to_plain
from airlab.cli.experiment import open_experiment
from airlab.errors import UserError
from airlab.reporting.lock import LOCK, read_lock
from airlab.schema.base import Frozen
from airlab.store.fingerprint import fingerprint


class VerifyCommand(Frozen):
    """What `configs/verify.yaml` binds to."""

    results: str


def differences(folder: Path, experiment: str, scale: str, configs: Path) -> list[str]:
    """Names of a table's cells whose fingerprints no longer follow from the configuration."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs), version_base="1.3"):
        module, bound, _ = open_experiment(compose("run", [f"experiment={experiment}", f"scale={scale}"]))
    expected = {cell.name: fingerprint(cell.evaluation) for cell in module.cells(bound)}
    locked = read_lock(folder).cells
    return sorted(name for name in expected.keys() | locked.keys() if expected.get(name) != locked.get(name))


def run(config: DictConfig) -> None:
    """Recompute every committed table's fingerprints and compare them with its lock."""
    from airlab.cli.main import configs_folder

    command = bind(VerifyCommand, to_plain(config))
    root = Path(command.results)
    locks = sorted(root.rglob(LOCK))
    if not locks:
        raise UserError(f"there are no committed tables below {root}; run an experiment first.")
    stale = 0
    for lock in locks:
        *experiment, scale = lock.parent.relative_to(root).parts
        name = "/".join(experiment)
        differ = differences(lock.parent, name, scale, configs_folder())
        stale += bool(differ)
        told = "current" if not differ else f"out of date in {len(differ)} cells, first {differ[0]}"
        print(f"{name} at scale {scale}: {told}")
    if stale:
        raise UserError(
            f"{stale} of {len(locks)} tables no longer follow from the configurations; run them again."
        )
