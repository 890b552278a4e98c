"""`-m`: Hydra expands a sweep, and every job runs in a process of its own.

Hydra's own launcher would run all jobs in one process, compose each only when its turn comes, and stop at
the first that breaks. Here it composes only: what was composed is checked as a whole, handed to processes as
finished values, and its results are looked up by fingerprint, so that nothing else in the folder counts.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from airlab.cli import experiment
from airlab.cli.bind import to_plain
from airlab.cli.jobs import Job, refuse_failures, run_jobs
from airlab.cli.outputs import open_store
from airlab.cli.plan import has_scripts, job_name, print_script, setting, show
from airlab.cli.slurm import array_script
from airlab.errors import UserError
from airlab.progress import announce
from airlab.reporting.pages import print_page, write_page
from airlab.reporting.sweep import SweepJob, sweep_page
from airlab.reporting.tables import IncompleteTable, Table
from airlab.schema.machine import Machine
from airlab.store.store import Store
from airlab.terminal import visible

_HYDRAS_OWN = "multirun.yaml"
_ABOUT_FILES = ("folder", "results", "only", "partial")
"""Settings that say nothing about the numbers in a table."""


@dataclass(frozen=True)
class Composed:
    """One job as Hydra composed it.

    Attributes:
        overrides: all that were given, without those to Hydra itself.
        config: resolved; plain values that no later edit of a file can change.
        sweep: the folder of the whole sweep; unused where there is none.
    """

    number: int
    overrides: tuple[str, ...]
    config: dict[str, Any]
    sweep: Path

    @property
    def folder(self) -> Path:
        """The job's own."""
        return self.sweep / str(self.number)


def sweep_folder() -> Path:
    """Where Hydra puts the sweep whose job is being composed."""
    return Path(HydraConfig.get().sweep.dir)


def composed(config: DictConfig) -> Composed:
    """What Hydra hands to its task function.

    Raises:
        UserError: a value is missing or cannot be resolved; in a sweep the job is named.
    """
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return Composed(0, (), to_plain(config), Path())
    overrides = tuple(map(str, hydra.overrides.task))
    try:
        return Composed(int(hydra.job.num), overrides, to_plain(config), sweep_folder())
    except UserError as error:
        raise UserError(f"job {hydra.job.num} ({' '.join(overrides)}): {error}") from None


def discard(folder: Path) -> None:
    """Remove what Hydra made in a sweep's folder and nobody filled."""
    for path in folder.glob("[0-9]*"):
        with suppress(OSError):
            path.rmdir()
    if [path.name for path in folder.glob("*")] == [_HYDRAS_OWN]:
        (folder / _HYDRAS_OWN).unlink()
    for path in (folder, folder.parent):
        with suppress(OSError):
            path.rmdir()


def each(verb: str, jobs: Sequence[Composed]) -> None:
    """Run a command other than an experiment's once for every job; its settings say where its output goes."""
    from airlab.cli.main import VERBS

    told = varying(jobs)
    calls = [_job(job, told[job.number], verb, VERBS[verb].target) for job in jobs]
    refuse_failures(run_jobs(calls), len(calls))


def plan(verb: str, jobs: Sequence[Composed]) -> None:
    """Print the stages of every job, and the script of a job array where there is Slurm."""
    opened = _opened(jobs)
    for job in opened:
        print(visible(job.title))
        show(job.composed.config)
    first = opened[0]
    if has_scripts(first.composed.config, first.machine):
        if any(job.machine != first.machine for job in opened):
            raise UserError("a job array is for one machine; do not sweep over it.")
        scripts = {job.composed.number: _on_its_own(job) for job in opened}
        name = job_name(first.bound)
        print_script(first.composed.config, first.bound.name, array_script(name, first.machine, scripts))
        folder = first.composed.sweep
        told = f"then `airlab table -m` with the same overrides and folder={folder} writes the table over all"
        print(visible(told))


def _on_its_own(job: "_Opened") -> list[str]:
    """Overrides with which `airlab run` does one job, and puts its results where the sweep would."""
    told = [o for o in job.composed.overrides if setting(o) not in (*experiment.ONLY_PLANNED, "folder")]
    own = {key: job.composed.config[key] for key in ("folder", "results")}
    return [*(o for o in told if setting(o) != "results"), *(f"{key}={value}" for key, value in own.items())]


def run(verb: str, jobs: Sequence[Composed]) -> None:
    """Run every job in a process of its own, then write and print the table over all of them."""
    opened = _opened(jobs)
    calls = [_job(job.composed, job.told, verb, "airlab.cli.experiment:run") for job in opened]
    failures = run_jobs(calls)
    try:
        _aggregate(opened)
    except UserError as error:
        if not failures:
            raise
        announce(str(error))
    refuse_failures(failures, len(calls))


def table(verb: str, jobs: Sequence[Composed]) -> None:
    """Write and print the table over all jobs from what is there."""
    _aggregate(_opened(jobs))


def varying(jobs: Sequence[Composed]) -> dict[int, str]:
    """What distinguishes each job: its overrides without those that all jobs share."""
    shared = _shared(jobs)
    return {job.number: " ".join(o for o in job.overrides if o not in shared) for job in jobs}


def _shared(jobs: Sequence[Composed]) -> tuple[str, ...]:
    count = Counter(override for job in jobs for override in job.overrides)
    return tuple(override for override, n in count.items() if n == len(jobs))


@dataclass(frozen=True)
class _Opened:
    """A job that was found to be possible."""

    composed: Composed
    told: str
    module: ModuleType
    bound: Any
    machine: Machine
    partial: bool

    @property
    def title(self) -> str:
        return f"{_name(self.composed)} ({self.told})" if self.told else _name(self.composed)


def _name(job: Composed) -> str:
    return f"job {job.number}"


def _job(job: Composed, told: str, verb: str, call: str) -> Job:
    return Job(_name(job), told, verb, call, (job.config,), job.folder)


def _opened(jobs: Sequence[Composed]) -> list[_Opened]:
    """Bind and plan all jobs before any runs; each gets a place of its own for its results.

    Raises:
        UserError: a mistake in any of them, or two that would write to one place.
    """
    told = varying(jobs)
    opened = []
    places: dict[tuple[str, str, str], str] = {}
    for job in jobs:
        own = {**job.config, "folder": str(job.folder)}
        if not any(override.lstrip("+").startswith("results=") for override in job.overrides):
            own["results"] = str(job.folder)
        try:
            module, bound, command = experiment.open_plain(own)
            experiment.check(module, bound, command)
        except UserError as error:
            raise UserError(f"{_name(job)} ({' '.join(job.overrides)}): {error}") from None
        # Partial is asked for of the table over all jobs; one that ends has its own table whole.
        own["partial"] = False
        this = replace(job, config=own)
        opened.append(_Opened(this, told[job.number], module, bound, command.machine, command.partial))
        place = (command.results, bound.name, bound.scale)
        if place in places:
            raise UserError(
                f"{places[place]} and {_name(job)} would write the same table; leave results out, or let it "
                "depend on what is swept, as in 'results=outputs/share-${selecting.share}'."
            )
        places[place] = _name(job)
    if len({job.sweep for job in jobs}) > 1:
        raise UserError("all jobs of a sweep share one folder; do not sweep over it.")
    return opened


def _aggregate(opened: Sequence[_Opened]) -> None:
    store = open_store()
    partial = any(job.partial for job in opened)
    rows, holes = [], []
    for job in opened:
        table, complete = _table(job, store, partial)
        rows.append(SweepJob(job.composed.number, job.told, table, complete))
        if not complete:
            holes.append(job.title)
    if holes and not partial:
        raise UserError(
            f"the table of the sweep is not complete: no result of {', '.join(holes)}; run `airlab run -m` "
            "with the same overrides, or set partial=true."
        )
    folder = opened[0].composed.sweep
    shared = _shared([job.composed for job in opened])
    page = sweep_page(rows, [o for o in shared if o.partition("=")[0] not in _ABOUT_FILES])
    folder.mkdir(parents=True, exist_ok=True)
    write_page(folder, page)
    print_page(page)
    print(visible(f"written to {folder}"))


def _table(job: _Opened, store: Store, partial: bool) -> tuple[Table | None, bool]:
    """The job's table, and whether all of it is there."""
    try:
        return job.module.find(job.bound, store).table, True
    except IncompleteTable:
        return (job.module.find(job.bound, store, partial=True).table if partial else None), False
