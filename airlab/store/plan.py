"""What has to run, in which order, and running it."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from airlab.errors import UserError
from airlab.progress import announce, duration
from airlab.schema.machine import Machine
from airlab.store.fingerprint import fingerprint
from airlab.store.record import INPUTS_WALL, Record
from airlab.store.stage import Stage
from airlab.store.store import Store


@dataclass(frozen=True)
class PlanRow:
    """One stage as `airlab plan` shows it."""

    stage: str
    slug: str
    fingerprint: str
    """The first 12 digits, as in the folder's name."""
    status: Literal["present", "partial", "missing"]
    needed: bool
    """Whether `Plan.run` would run it. A missing input of a present artifact is not needed."""


class Plan:
    """The stages that lead to `targets`.

    A present artifact ends the walk from the targets down: its address already says what its inputs
    were, so it stays valid when their folders are deleted, and they are only made again if something
    missing needs them.
    """

    def __init__(self, store: Store, targets: Sequence[Stage]) -> None:
        self.store = store
        self.targets = tuple(targets)
        self.order: tuple[Stage, ...] = _inputs_first(self.targets, frozenset())
        """Every stage once, inputs before what uses them, in the order of targets and fields."""

    def missing(self) -> tuple[Stage, ...]:
        """The stages that must run, in order. Raises UserError for a damaged artifact."""
        present = {fingerprint(stage) for stage in self.order if self.store.record(stage) is not None}
        return _inputs_first(self.targets, frozenset(present))

    def explain(self) -> tuple[PlanRow, ...]:
        """A row for every stage, in order."""
        needed = {fingerprint(stage) for stage in self.missing()}
        return tuple(self._row(stage, fingerprint(stage) in needed) for stage in self.order)

    def _row(self, stage: Stage, needed: bool) -> PlanRow:
        status: Literal["present", "partial", "missing"] = "missing"
        if self.store.record(stage) is not None:
            status = "present"
        elif self.store.part(stage).exists():
            status = "partial"
        return PlanRow(stage.name, stage.slug(), fingerprint(stage)[:12], status, needed)

    def run(self, machine: Machine) -> None:
        """Run what is missing, a line at each start and finish; continue what was interrupted.

        Whatever a stage raises is passed on with the stage named; finished stages stay finished.
        """
        missing = self.missing()
        if len(missing) < len(self.order):
            announce(f"{len(self.order) - len(missing)} of {len(self.order)} stages need no work")
        for number, stage in enumerate(missing, 1):
            self._run_one(stage, f"[{number}/{len(missing)}] {_title(stage)}", machine)

    def _run_one(self, stage: Stage, title: str, machine: Machine) -> None:
        again = " (continuing)" if self.store.part(stage).exists() else ""
        announce(f"{title} started{again}")
        start = time.monotonic()
        try:
            self.store.make(stage, machine)
        except KeyboardInterrupt:
            announce(f"{title} interrupted; the same command continues it")
            raise
        except UserError as error:
            raise UserError(f"{_title(stage)}: {error}") from error
        except Exception as error:
            announce(f"{title} failed after {duration(time.monotonic() - start)}")
            error.add_note(f"in stage {_title(stage)}; nothing was promoted, a rerun continues here")
            raise
        announce(f"{title} done in {duration(time.monotonic() - start)}")

    @property
    def wall_s(self) -> dict[str, float]:
        """Seconds each artifact took to make, by full fingerprint, from its record.

        One that is gone, such as a model that was evaluated, is in the records of what was made from it.
        """
        records = self._records()
        told: list[Any] = [record.provenance.get(INPUTS_WALL, {}) for record in records]
        known = {address: float(wall) for walls in told for address, wall in walls.items()}
        return known | {record.fingerprint: record.wall_s for record in records}

    @property
    def machines(self) -> tuple[dict[str, Any], ...]:
        """What the present artifacts were made on, most of them first: hardware, torch, number of stages.

        An artifact may have been made elsewhere than the table that is read from it.
        """
        made = Counter(json.dumps(_machine(record), sort_keys=True) for record in self._records())
        return tuple({**json.loads(machine), "stages": count} for machine, count in made.most_common())

    def _records(self) -> list[Record]:
        return [record for stage in self.order if (record := self.store.record(stage)) is not None]


def _machine(record: Record) -> dict[str, Any]:
    facts: Mapping[str, Any] = record.provenance
    return {name: facts[name] for name in ("cpu", "cores", "gpus")} | {
        "torch": facts["packages"].get("torch")
    }


def _title(stage: Stage) -> str:
    return " ".join(word for word in (stage.name, stage.slug(), fingerprint(stage)[:12]) if word)


def _inputs_first(targets: Iterable[Stage], cut: frozenset[str]) -> tuple[Stage, ...]:
    """Depth first from the targets, each fingerprint once, neither entering nor listing those in `cut`."""
    order: dict[str, Stage] = {}
    for target in targets:
        below: list[tuple[Stage, Iterator[Stage]]] = []  # not recursive: a chain may be longer than the stack
        entered = iter((target,))
        while True:
            stage = next(entered, None)
            if stage is not None:
                if fingerprint(stage) not in order and fingerprint(stage) not in cut:
                    below.append((stage, entered))
                    entered = iter(stage.inputs())
            elif below:
                done, entered = below.pop()
                order[fingerprint(done)] = done
            else:
                break
    return tuple(order.values())
