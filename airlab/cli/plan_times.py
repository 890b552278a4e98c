"""How long the stages of a plan should take: as long as others of their kind took, for as much work."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airlab.cli.experiment import PUBLISHED, open_published
from airlab.cli.plan_costs import Planner
from airlab.progress import duration
from airlab.reporting.lock import LOCK, read_lock
from airlab.store.plan import Plan
from airlab.store.stage import Stage

_TOLD_S = 1.0
"""Kinds that take less together are in the sum, and not named."""


@dataclass(frozen=True)
class Pace:
    """What stages of one kind took.

    Attributes:
        seconds: for a unit of work, which is a floating-point operation where `counts_work`, else a stage.
        told: where the number comes from.
    """

    seconds: float
    counts_work: bool
    told: str


def paces(planner: Planner, plan: Plan, name: str, scale: str) -> dict[str, Pace]:
    """By kind of stage: from finished stages of the plan, else from the lock of the published experiment.

    Only what was measured on the same kind of device counts, and a kind that was never measured has none.
    """
    return {**_locked(planner, name, scale), **_finished(planner, plan)}


def expected(planner: Planner, known: Mapping[str, Pace], stage: Stage) -> float | None:
    """Seconds; None where nothing was measured, or nothing says how much work it is."""
    pace = known.get(stage.name)
    if pace is None or not pace.counts_work:
        return None if pace is None else pace.seconds
    work = planner.cost(stage).flops
    return None if not work else pace.seconds * work


def told(each: Iterable[tuple[str, float | None]], known: Mapping[str, Pace]) -> list[str]:
    """Sentences on how long stages take together, and on how that is known.

    Args:
        each: kind and seconds of every stage.
    """
    kinds: dict[str, float] = defaultdict(float)
    unknown: dict[str, int] = defaultdict(int)
    for name, seconds in each:
        if seconds is None:
            unknown[name] += 1
        else:
            kinds[name] += seconds
    missing = ", ".join(f"{name} ({count})" for name, count in unknown.items())
    if not kinds:
        return [
            "How long this takes is unknown: nothing of it was measured here, and no lock in results/ times "
            "it on a machine of this kind alone."
        ]
    slowest = sorted(kinds, key=lambda name: -kinds[name])
    shares = ", ".join(f"{name} {duration(kinds[name])}" for name in slowest if kinds[name] >= _TOLD_S)
    rest = f", and what nothing was measured of: {missing}" if missing else ""
    lines = [f"expected: {duration(sum(kinds.values()))}{f' ({shares})' if shares else ''}{rest}"]
    sources: dict[str, list[str]] = defaultdict(list)
    for name in slowest:
        sources[known[name].told].append(name)
    several = len(sources) > 1
    return lines + [
        f"as {source}{': ' + ', '.join(names) if several else ''}" for source, names in sources.items()
    ]


def _finished(planner: Planner, plan: Plan) -> dict[str, Pace]:
    there = [(stage, record) for stage in plan.order if (record := plan.store.record(stage)) is not None]
    found = {}
    for name in dict.fromkeys(stage.name for stage, _ in there):
        own = [pair for pair in there if pair[0].name == name and _is_alike(planner, pair[1].provenance)]
        if own:
            works = _works(planner, [stage for stage, _ in own])
            each = [
                record.wall_s / work for (_, record), work in zip(own, works or [1.0] * len(own), strict=True)
            ]
            machines = dict.fromkeys(_machine(record.provenance) for _, record in own)
            source = f"finished stages of this plan took, on {' and '.join(machines)}"
            found[name] = Pace(statistics.median(each), works is not None, source)
    return found


def _locked(planner: Planner, name: str, scale: str) -> dict[str, Pace]:
    folder = Path(PUBLISHED) / name / scale
    if not (folder / LOCK).is_file():
        return {}
    lock = read_lock(folder)
    # Of several machines nothing says which took what. Some stages on a CPU lengthen a GPU's hours a little;
    # some on a GPU would shorten a CPU's days to hours.
    asked = lock.machines[:1] if planner.machine.device == "cuda" else lock.machines
    if not all(_is_alike(planner, machine) for machine in asked):
        return {}
    module, bound = open_published(name, scale)
    order = Plan(planner.store, list(module.targets(bound).values())).order
    if sum(machine["stages"] for machine in lock.machines) != len(order):
        return {}  # some artifacts were gone when it was written, and nothing says whose seconds are missing
    kinds: dict[str, list[Stage]] = defaultdict(list)
    for stage in order:
        kinds[stage.name].append(stage)
    source = f"in {folder / LOCK}, on {' and '.join(dict.fromkeys(map(_machine, lock.machines)))}"
    found = {}
    for kind, seconds in lock.wall_s.items():
        if kind in kinds:
            works = _works(planner, kinds[kind])
            found[kind] = Pace(seconds / sum(works or [1.0] * len(kinds[kind])), works is not None, source)
    return found


def _works(planner: Planner, stages: Sequence[Stage]) -> list[float] | None:
    """Floating-point operations of each; None where they are not counted for all."""
    works = [planner.cost(stage).flops for stage in stages]
    return [work for work in works if work] if all(works) else None


def _is_alike(planner: Planner, facts: Mapping[str, Any]) -> bool:
    return bool(facts["gpus"]) == (planner.machine.device == "cuda")


def _machine(facts: Mapping[str, Any]) -> str:
    gpus: Iterable[str] = facts["gpus"]
    return " and ".join(dict.fromkeys(gpus)) or f"{facts['cores']} cores of {facts['cpu']}"
