"""`airlab status`: what a store holds, what is unfinished, what is stale and why. It only reads.

Without settings the whole store, held against every experiment of `configs/experiment` at every scale; with
settings the one experiment that `airlab run` would run with them.
"""

import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hydra.errors import HydraException
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table as RichTable

from airlab.cli.experiment import open_plain, open_published
from airlab.cli.how_far import how_far
from airlab.cli.main import configs_folder
from airlab.cli.outputs import open_store
from airlab.cli.overrides import choices, explain
from airlab.cli.sweep import Composed, varying
from airlab.errors import UserError
from airlab.progress import duration
from airlab.reporting.formats import markup
from airlab.reporting.pages import Section
from airlab.stages.shard_notes import ShardNote, read_notes
from airlab.stages.shards import shards_kept
from airlab.store.differences import Differences
from airlab.store.fingerprint import fingerprint
from airlab.store.inventory import Artifact, Inventory, Unfinished, take_inventory
from airlab.store.plan import Plan
from airlab.store.record import Record
from airlab.store.stage import Stage
from airlab.terminal import visible

_DIGITS = 12
_SLOW = 4.0
"""A running shard is told of as slow when it takes so many times the median."""
_NUMBERS = ("there", "asked for", "stale", "orphaned", "damaged", "unfinished", "missing", "size", "spent")


def run(config: Mapping[str, Any]) -> None:
    """Show the whole store, or what is there of one experiment."""
    if len(sys.argv) > 1:
        _one(config)
    else:
        _whole()


def sweep(verb: str, jobs: Sequence[Composed]) -> None:
    """Show what is there of each job's experiment."""
    told = varying(jobs)
    for job in jobs:
        print(visible(f"job {job.number} ({told[job.number]})"))
        _one(job.config)


@dataclass(frozen=True)
class _Look:
    """A store as it was a moment ago, and the stages that it is held against."""

    inventory: Inventory
    asked: Mapping[str, Stage]
    """By fingerprint."""

    @property
    def sound(self) -> dict[str, tuple[Artifact, Record]]:
        """Finished artifacts by fingerprint."""
        return {a.record.fingerprint: (a, a.record) for a in self.inventory.finished if a.record is not None}

    def differences(self) -> Differences:
        return Differences((record for _, record in self.sound.values()), self.asked.values())

    def title(self, part: Unfinished) -> str:
        """What an unfinished folder is called where it is asked for, and how its address begins."""
        stage = self.asked.get(part.fingerprint)
        return " ".join(filter(None, [stage.slug() if stage else "", part.fingerprint[:_DIGITS]]))


def _whole() -> None:
    store = open_store()
    inventory = take_inventory(store.root)
    asked, unknown = _published_stages(inventory)
    look = _Look(inventory, asked)
    sound = look.sound
    differences = look.differences()
    stale, orphaned = [], []
    for address, (artifact, record) in sound.items():
        if address in asked:
            continue
        nearest = differences.nearest_asked(record)
        cells = (artifact.stage, artifact.folder.name, decimal(artifact.n_bytes), _day(record.ended))
        if nearest is None:
            orphaned.append(cells)
        else:
            made = "; what is asked for now is there" if fingerprint(nearest) in sound else ""
            stale.append((*cells, "; ".join(differences.reasons(record, nearest)) + made))
    rows = _by_stage(
        look.inventory.finished, asked, Counter(c[0] for c in stale), Counter(c[0] for c in orphaned)
    )
    headers = ("stage", "there", "asked for", "stale", "orphaned", "damaged", "size")
    sections = [
        Section("finished", headers, rows),
        _unfinished(look, look.inventory.unfinished),
        _shards(look, look.inventory.unfinished),
        Section("stale", ("stage", "artifact", "size", "made", "why"), tuple(stale)),
        _damaged(look.inventory.finished),
        Section("orphaned", ("stage", "artifact", "size", "made"), tuple(orphaned)),
    ]
    everything: list[Artifact | Unfinished] = [*look.inventory.finished, *look.inventory.unfinished]
    foot = [
        f"{store.root}: {len(look.inventory.finished)} finished and {len(look.inventory.unfinished)} "
        f"unfinished artifacts, {_size(everything)}",
        "asked for: by an experiment of configs/experiment at some scale, with nothing overridden. stale: "
        "none asks for it, and one asks for what differs from it as told. orphaned: none asks for anything "
        "like it; what airlab score made of your own data is among these.",
        *unknown,
    ]
    _show(sections, foot)


def _one(config: Mapping[str, Any]) -> None:
    module, bound, _ = open_plain(config)
    store = open_store()
    order = Plan(store, list(module.targets(bound).values())).order
    look = _Look(take_inventory(store.root), {fingerprint(stage): stage for stage in order})
    sound = look.sound
    differences = look.differences()
    own_parts = [part for part in look.inventory.unfinished if part.fingerprint in look.asked]
    begun = {part.fingerprint for part in own_parts}
    short = {(stage.name, address[:_DIGITS]) for address, stage in look.asked.items()}
    own_damaged = [a for a in look.inventory.finished if (a.stage, a.folder.name[-_DIGITS:]) in short]
    missing = [s for s in order if fingerprint(s) not in sound and fingerprint(s) not in begun]
    rows = []
    for name in dict.fromkeys(stage.name for stage in order):
        own = [fingerprint(stage) for stage in order if stage.name == name]
        there = [sound[address][0] for address in own if address in sound]
        counts = (len(own), len(there), sum(a in begun for a in own), sum(s.name == name for s in missing))
        rows.append((name, *map(str, counts), _size(there)))
    stale = []
    for stage in missing:
        nearest = differences.nearest_there(stage)
        if nearest is not None:
            folder = sound[nearest.fingerprint][0].folder.name
            title = " ".join(filter(None, [stage.slug(), fingerprint(stage)[:_DIGITS]]))
            stale.append((stage.name, title, folder, "; ".join(differences.reasons(nearest, stage))))
    sections = [
        Section("stages", ("stage", "asked for", "there", "unfinished", "missing", "size"), tuple(rows)),
        _unfinished(look, own_parts),
        _shards(look, own_parts),
        Section("stale", ("stage", "missing artifact", "nearest there", "why"), tuple(stale)),
        _damaged(own_damaged),
    ]
    others = [a for address, (a, _) in sound.items() if address not in look.asked]
    foot = [
        f"{bound.name}, scale {bound.scale}: {len(order)} stages, {len(order) - len(missing) - len(begun)} "
        f"there, {len(begun)} unfinished, {len(missing)} missing",
        f"{len(others)} other finished artifacts in {store.root}, {_size(others)}; airlab status alone shows "
        "them.",
    ]
    _show(sections, foot)


def _published_stages(inventory: Inventory) -> tuple[dict[str, Stage], list[str]]:
    """Every stage that an experiment asks for at some scale, and a sentence for each that cannot be asked.

    Ends early when all there is has been asked for: composing an experiment takes Hydra a fifth of a second.
    """
    there = {a.record.fingerprint for a in inventory.finished if a.record is not None}
    there |= {part.fingerprint for part in inventory.unfinished}
    asked: dict[str, Stage] = {}
    unknown: list[str] = []
    for scale in choices(configs_folder(), "scale"):
        for name in choices(configs_folder(), "experiment"):
            if there <= asked.keys():
                return asked, unknown
            try:
                module, bound = open_published(name, scale)
                targets = list(module.targets(bound).values())
            except HydraException as error:
                sentence = explain(error, configs_folder(), "run")
                unknown.append(f"not compared with {name} at scale {scale}: {sentence}")
            except UserError as error:
                unknown.append(f"not compared with {name} at scale {scale}: {error}")
            else:
                asked |= {fingerprint(stage): stage for stage in Plan(open_store(), targets).order}
    return asked, unknown


def _by_stage(
    finished: Sequence[Artifact],
    asked: Mapping[str, Stage],
    stale: Mapping[str, int],
    orphaned: Mapping[str, int],
) -> tuple[tuple[str, ...], ...]:
    rows = []
    for name in dict.fromkeys(artifact.stage for artifact in finished):
        own = [artifact for artifact in finished if artifact.stage == name]
        current = sum(a.record is not None and a.record.fingerprint in asked for a in own)
        damaged = sum(a.damage is not None for a in own)
        counts = (len(own), current, stale.get(name, 0), orphaned.get(name, 0), damaged)
        rows.append((name, *map(str, counts), _size(own)))
    return tuple(rows)


def _unfinished(look: _Look, parts: Iterable[Unfinished]) -> Section:
    rows = [
        (
            part.stage,
            look.title(part),
            how_far(part, look.asked.get(part.fingerprint)),
            _minute(part.began),
            _minute(part.last),
            duration(part.spent_s),
            decimal(part.n_bytes),
            _worker(part, look),
        )
        for part in parts
    ]
    headers = ("stage", "artifact", "kept", "since", "last written", "spent", "size", "now")
    return Section("unfinished", headers, tuple(rows))


def _shards(look: _Look, parts: Iterable[Unfinished]) -> Section:
    """What several workers of one artifact are at, and a row for all the rest."""
    rows = []
    for part in parts:
        notes, kept = read_notes(part.folder), shards_kept(part.folder)
        took = [note.spent_s for note in notes if note.state == "measured"]
        others = [note for note in notes if note.first not in kept]
        for note in others:
            units = f"{note.first:,} to {note.first + note.units - 1:,}"
            where = f"{note.worker}, process {note.process} on {note.host}"
            rows.append((part.stage, look.title(part), units, _state(note, took), where))
        if notes:
            rest = notes[0].of_shards - len(kept) - len(others)
            usual = f", half of them in {duration(statistics.median(took))} or less" if took else ""
            told = f"{len(kept)} of {notes[0].of_shards} shards measured{usual}; {rest} not begun"
            rows.append((part.stage, look.title(part), "all", told, ""))
    return Section("shards", ("stage", "artifact", "units", "state", "worker"), tuple(rows))


def _state(note: ShardNote, took: Sequence[float]) -> str:
    if note.state == "failed":
        return f"failed after {duration(note.spent_s)}: {note.why}"
    if note.is_gone:
        return "its process is gone; whoever goes on measures it again"
    spent = max(time.time() - note.began, 0.0)
    slow = took and spent > _SLOW * statistics.median(took)
    return f"running for {duration(spent)}" + (", much longer than others took" if slow else "")


def _worker(part: Unfinished, look: _Look) -> str:
    if not look.inventory.tells_workers:
        return "this system does not tell whether a process works on it"
    if part.worker is not None:
        return f"process {part.worker} works on it"
    if part.fingerprint in look.asked:
        return "nobody works on it; the same command continues it"
    return "nobody works on it, and no experiment asks for it"


def _damaged(artifacts: Iterable[Artifact]) -> Section:
    rows = [
        (a.stage, a.folder.name, decimal(a.n_bytes), f"{a.damage}; delete that folder and run again")
        for a in artifacts
        if a.damage is not None
    ]
    return Section("damaged", ("stage", "artifact", "size", "why"), tuple(rows))


def _size(some: Iterable[Artifact | Unfinished]) -> str:
    return decimal(sum(item.n_bytes for item in some))


def _day(moment: str) -> str:
    return moment[:10]


def _minute(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"


def _show(sections: Sequence[Section], foot: Sequence[str]) -> None:
    """Tables on a terminal; elsewhere a line for every row, with what its cells are."""
    console = Console()
    for section in sections:
        if not section.rows:
            continue
        if console.is_terminal:
            console.print(_table(section))
        else:
            for row in section.rows:
                cells = zip(section.headers, row, strict=True)
                told = ", ".join(f"{header} {cell}" for header, cell in cells)
                print(visible(f"{section.title}: {told}"))
    for line in foot:
        console.print(visible(line), markup=False, highlight=False, soft_wrap=True)


def _table(section: Section) -> RichTable:
    shown = RichTable(title=markup(section.title), title_justify="left")
    for header in section.headers:
        is_number = header in _NUMBERS
        shown.add_column(markup(header), justify="right" if is_number else "left", no_wrap=is_number)
    for row in section.rows:
        shown.add_row(*map(markup, row))
    return shown
