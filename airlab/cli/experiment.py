"""`airlab run | table`: published experiments.

An experiment's module has `Config`, `targets(config)`, `find(config, store, partial=...)` and
`selections(config, store)`. Where it also has `parts(config)`, targets by name in named groups, every group
runs in a process of its own, and one that fails takes no other down.
"""

import fnmatch
import importlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from airlab.cli.bind import bind, to_plain
from airlab.cli.jobs import Job, refuse_failures, run_jobs
from airlab.cli.outputs import open_store
from airlab.cli.overrides import choices, no_experiment
from airlab.errors import UserError
from airlab.reporting.figures.results import GATHERED, SELECTIONS
from airlab.reporting.findings import print_findings, write_findings
from airlab.reporting.lock import read_lock, write_lock
from airlab.reporting.tables import IncompleteTable
from airlab.reporting.token_maps import EXAMPLES
from airlab.schema.base import Frozen
from airlab.schema.machine import Machine
from airlab.store.durable import alone, written
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.provenance import provenance
from airlab.store.stage import Stage
from airlab.store.store import Store
from airlab.terminal import visible
from airlab.training.tracking import check_trackers

PUBLISHED = "results"
"""Where tables go by default: what is committed, so only published configurations may write there."""

ARCHIVE = "artifacts.tar.xz"
"""Beside a table or where it will be: what it was read from, see `airlab archive`."""

ONLY_PLANNED = ("gpu_hours", "price", "scripts", "planning")
"""Settings of `airlab plan` alone."""


class RunCommand(Frozen):
    """What `configs/run.yaml` binds to, besides the experiment itself."""

    machine: Machine
    results: str
    folder: str
    """Where processes of their own leave their logs."""
    only: tuple[str, ...]
    """Patterns of cells' names (`*/seed-0`): what is made, and no table of it. Empty makes everything."""
    share: bool
    """Make cells beside other processes that were started alike, each the next one that nobody works on, and
    no table."""
    partial: bool


def open_experiment(config: DictConfig) -> tuple[ModuleType, Any, RunCommand]:
    """The experiment's module, its bound configuration, and how to run it."""
    return open_plain(to_plain(config))


def open_plain(config: Mapping[str, Any]) -> tuple[ModuleType, Any, RunCommand]:
    """The same from plain values.

    Raises:
        UserError: a setting that does not exist, or a value that is not possible.
    """
    plain = {key: value for key, value in config.items() if key not in ONLY_PLANNED}
    experiment = plain.pop("experiment")
    command = bind(RunCommand, {key: plain.pop(key) for key in RunCommand.model_fields})
    module = importlib.import_module("experiments." + _known(experiment["name"]).replace("/", "."))
    # Everything else in the file is the experiment's: the groups, and what its own file sets.
    return module, bind(module.Config, {**experiment, **plain}), command


def _known(name: object) -> str:
    from airlab.cli.main import configs_folder

    known = choices(configs_folder(), "experiment")
    if name not in known:
        raise no_experiment(name, known)
    return str(name)


def check(module: ModuleType, bound: Any, command: RunCommand) -> None:
    """Find what cannot be, before any work is done.

    Raises:
        UserError: parts that do not go together, a tracker that is not installed, or a table in a place that
            is not its own.
    """
    asked_for(module, bound, command)
    check_trackers(command.machine)
    check_results(module, bound, command)


def run(config: Mapping[str, Any]) -> None:
    """Run what is missing, then write and print the table."""
    module, bound, command = open_plain(config)
    check(module, bound, command)
    store = open_store()
    if command.only or command.share:
        _run_some(module, bound, command, store)
        return
    if hasattr(module, "parts"):
        _run_parts(module, bound, command, store, config)
    else:
        _plan(module, bound, store).run(command.machine)
    _tabulate(module, bound, command, store)


def asked_for(module: ModuleType, bound: Any, command: RunCommand) -> dict[str, Stage]:
    """The experiment's targets, or those of them that `only` names.

    Raises:
        UserError: a pattern that names none.
    """
    targets: Mapping[str, Stage] = module.targets(bound)
    for pattern in command.only:
        if not fnmatch.filter(targets, pattern):
            raise UserError(
                f"only={pattern} names nothing that {bound.name} makes; it makes "
                f"{', '.join(list(targets)[:3])} and others, {len(targets)} in all; * stands for any letters."
            )
    return {
        name: stage
        for name, stage in targets.items()
        if not command.only or any(fnmatch.fnmatchcase(name, pattern) for pattern in command.only)
    }


def _run_some(module: ModuleType, bound: Any, command: RunCommand, store: Store) -> None:
    asked = list(asked_for(module, bound, command).values())
    if command.share:
        _run_shared(asked, command.machine, store)
    else:
        Plan(store, asked).run(command.machine)
    targets = module.targets(bound)
    there = sum(store.find(stage) is not None for stage in targets.values())
    added = " and ".join(name for name in ("only", "share") if getattr(command, name))
    told = f"{there} of {len(targets)} are there"
    print(f"{told}; the same command without {added} makes the others and the table")


def _run_shared(cells: Sequence[Stage], machine: Machine, store: Store) -> None:
    """One cell after the other that no other process has made or works on."""
    for cell in cells:
        with store.claim(cell) as mine:
            if mine and store.find(cell) is None:
                Plan(store, [cell]).run(machine)


def run_part(config: Mapping[str, Any], part: str) -> None:
    """Run what is missing of one part of an experiment."""
    module, bound, command = open_plain(config)
    Plan(open_store(), list(module.parts(bound)[part].values())).run(command.machine)


def _run_parts(
    module: ModuleType, bound: Any, command: RunCommand, store: Store, config: Mapping[str, Any]
) -> None:
    jobs = [
        Job(name, "", "run", "airlab.cli.experiment:run_part", (config, name), Path(command.folder) / name)
        for name, targets in module.parts(bound).items()
        if not _finished(store, targets)
    ]
    failures = run_jobs(jobs)
    if failures and command.partial:
        _tabulate(module, bound, command, store)
    refuse_failures(failures, len(jobs))


def _finished(store: Store, targets: Mapping[str, Stage]) -> bool:
    try:
        return all(store.find(stage) is not None for stage in targets.values())
    except UserError:  # something is damaged; the part's own process says what
        return False


def table(config: Mapping[str, Any]) -> None:
    """Write and print the table from what is there."""
    module, bound, command = open_plain(config)
    if command.only or command.share:
        raise UserError(
            "only and share say what is made, and a table has all cells; leave them out, or use partial=true."
        )
    check_results(module, bound, command)
    _tabulate(module, bound, command, open_store())


def target_fingerprints(module: ModuleType, bound: Any) -> dict[str, str]:
    """Every artifact that an experiment's results are read from, by name."""
    return {name: fingerprint(stage) for name, stage in module.targets(bound).items()}


def open_published(name: str, scale: str) -> tuple[ModuleType, Any]:
    """An experiment's module and its configuration at a scale when nothing is overridden."""
    from airlab.cli.main import configs_folder

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        module, bound, _ = open_experiment(compose("run", [f"experiment={name}", f"scale={scale}"]))
    return module, bound


def published_targets(name: str, scale: str) -> dict[str, str]:
    """The artifacts behind an experiment's results at a scale when nothing is overridden."""
    return target_fingerprints(*open_published(name, scale))


def check_results(module: ModuleType, bound: Any, command: RunCommand) -> None:
    """Keep other configurations out of the folder of published tables, before any work is done."""
    if command.results == PUBLISHED and target_fingerprints(module, bound) != published_targets(
        bound.name, bound.scale
    ):
        raise UserError(
            f"this is not the published configuration of {bound.name} at scale {bound.scale}; "
            "give what comes of it a place of its own with results=FOLDER."
        )


def _plan(module: ModuleType, bound: Any, store: Store) -> Plan:
    return Plan(store, list(module.targets(bound).values()))


def _tabulate(module: ModuleType, bound: Any, command: RunCommand, store: Store) -> None:
    try:
        made = module.find(bound, store, partial=command.partial)
    except IncompleteTable as error:
        raise UserError(
            f"the table is not complete: {error}; run `airlab run` first, or set partial=true."
        ) from None
    folder = Path(command.results) / bound.name / bound.scale
    if not command.partial:
        plan = _plan(module, bound, store)
        walls = plan.wall_s
        cells = target_fingerprints(module, bound)
        facts = provenance()  # asked first: our own unfinished files would make the checkout look changed
        # The folder appears whole: a table without its lock says nothing about where it came from.
        with alone(folder.absolute()), written(folder.absolute()) as temporary:
            temporary.mkdir(parents=True)
            write_findings(temporary, made)
            write_lock(
                temporary,
                cells,
                facts,
                plan.machines,
                _wall_by_stage(plan, walls),
                made.names,
            )
            same = _is_of(folder, cells)
            selections = {**(_earlier_selections(folder) if same else {}), **module.selections(bound, store)}
            (temporary / SELECTIONS).write_text(json.dumps(selections, indent=1, sort_keys=True) + "\n")
            # What `airlab report` gathered is of the very same artifacts, or is gathered anew.
            _keep(folder, temporary, (ARCHIVE, GATHERED, EXAMPLES) if same else (ARCHIVE,))
    print_findings(made)
    if not command.partial:
        named = f"airlab report experiment={bound.name} scale={bound.scale}"
        print(visible(f"written to {folder}; {named}, with what else was set, makes a page of it"))


def _keep(folder: Path, temporary: Path, names: Sequence[str]) -> None:
    for name in names:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, temporary / name)


def _earlier_selections(folder: Path) -> dict[str, Any]:
    """As told before of the same artifacts: a restored cell comes without its own."""
    path = folder / SELECTIONS
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def _is_of(folder: Path, cells: Mapping[str, str]) -> bool:
    """Whether the table in a folder is of these artifacts."""
    try:
        return read_lock(folder).cells == cells
    except (OSError, ValueError, TypeError, KeyError):  # no table yet, or one that is written again for that
        return False


def _wall_by_stage(plan: Plan, walls: dict[str, float]) -> dict[str, float]:
    """Seconds by stage name; 0, which says unknown, where that of any artifact is: part of a sum misleads."""
    total: dict[str, float] = {}
    for stage in plan.order:
        total[stage.name] = total.get(stage.name, 0.0) + walls.get(fingerprint(stage), 0.0)
    unknown = {stage.name for stage in plan.order if fingerprint(stage) not in walls}
    return total | dict.fromkeys(unknown, 0.0)
