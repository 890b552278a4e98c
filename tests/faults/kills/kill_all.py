"""Kills pipelines wherever they touch the disk and at random moments, and compares what they leave.

Usage: python -m tests.faults.kills.kill_all FOLDER SEED PLAN, where PLAN is JSON: pipeline → how many of its
operations (null for all of them, by both signals), and how many random moments. Every place is killed, goes
on, is killed again, and goes on to its end. One line of JSON a pipeline tells what was tried and what went
wrong.
"""

import functools
import importlib
import json
import random
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from airlab.store.provenance import provenance
from tests.faults.attempts import SENTENCE, Attempt, attempt, finished, leftovers, take_over
from tests.faults.pipelines import PIPELINES, Pipeline, begin
from tests.faults.warm import claimed

KILL, INTERRUPT = signal.SIGKILL, signal.SIGINT


@dataclass
class Killed:
    """A pipeline, what it leaves when nobody disturbs it, and what happened to it when somebody did."""

    pipeline: Pipeline
    folder: Path
    draw: random.Random
    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def prepare(self) -> None:
        """Make the inputs, and everything once, undisturbed."""
        for module in self.pipeline.modules:
            importlib.import_module(module)
        self.given = self.folder / "given"
        self.given.mkdir(parents=True)
        prepared = attempt(functools.partial(self.pipeline.prepare, self.given), self.given)
        self._end_well(prepared)
        first = self._place("undisturbed")
        self.before = finished(first)
        take_over(self._run(first))
        self.expected = finished(first)
        again = self._place("again")
        whole = self._run(again)
        if finished(again) != self.expected:
            raise SystemExit(f"{self.pipeline.name} does not give the same bytes when nobody disturbs it")
        assert whole.operations is not None
        self.operations, self.wall_s = whole.operations, whole.wall_s

    def try_operation(self, at: int, by: signal.Signals) -> None:
        """Kill before operation `at`, kill what goes on there somewhere later, and compare what ends."""
        place = self._place(f"{by.name}-{at}")
        self._disturb(place, at, by)
        other = INTERRUPT if by is KILL else KILL
        # Much that was done is not done again, so there may be fewer operations left than it seems.
        if not self._disturb(place, self.draw.randint(1, max(1, self.operations - at)), other):
            self._disturb(place, 1, other)
        self._compare(place)

    def try_moment(self) -> None:
        """The same at two random moments; where a process is started, after it died at another."""
        place = self._place(f"moment-{self.counts['moments']}")
        if self.pipeline.child_dies_after is not None:
            self._let_child_die(place, self.draw.uniform(0.01, self.wall_s))
        by = self.draw.choice((KILL, INTERRUPT))
        self._disturb_after(place, self.draw.uniform(0, self.wall_s), by)
        self._disturb_after(place, self.draw.uniform(0, self.wall_s / 2), KILL)
        self.counts["moments"] += 1
        self._compare(place)

    def _place(self, name: str) -> Path:
        place = self.folder / name
        begin(self.given, place)
        return place

    def _run(self, place: Path) -> Attempt:
        done = attempt(functools.partial(self.pipeline.run, self.given), place)
        self._end_well(done)
        return done

    def _end_well(self, done: Attempt) -> None:
        if done.code != 0:
            raise SystemExit(f"{self.pipeline.name} ended with {done.code} undisturbed:\n{done.told}")

    def _disturb(self, place: Path, at: int, by: signal.Signals) -> bool:
        done = attempt(functools.partial(self.pipeline.run, self.given), place, at=at, by=by)
        return self._look(place, done, by, f"{by.name} before operation {at} of {place.name}")

    def _disturb_after(self, place: Path, seconds: float, by: signal.Signals) -> None:
        done = attempt(functools.partial(self.pipeline.run, self.given), place, after_s=seconds, by=by)
        self._look(place, done, by, f"{by.name} after {seconds:.3f} s in {place.name}")

    def _let_child_die(self, place: Path, seconds: float) -> None:
        where = f"child killed after {seconds:.3f} s in {place.name}"
        die = functools.partial(self.pipeline.child_dies_after, seconds)
        done = attempt(functools.partial(self.pipeline.run, self.given), place, before=die)
        if done.code != 0:
            self.counts["children"] += 1
            if done.code != 1 or "process ended with exit code -14" not in done.told:
                self.wrong.append(f"{where}: ended with {done.code} and told {done.told[-2000:]}")
        self._whole(place, where)

    def _look(self, place: Path, done: Attempt, by: signal.Signals, where: str) -> bool:
        """Count how the attempt ended; True if it was the signal that ended it."""
        if done.code == 0:
            self._whole(place, where)
            return False
        self.counts[by.name] += 1
        if by is KILL and done.code != -KILL:
            self.wrong.append(f"{where}: ended with {done.code}: {done.told[-2000:]}")
        if by is INTERRUPT:
            said = done.told.splitlines()[-1:] == [SENTENCE]
            if done.code != 130 or not said or "Traceback" in done.told or "Exception" in done.told:
                self.wrong.append(f"{where}: ended with {done.code} and told {done.told[-2000:]!r}")
        self._whole(place, where)
        return True

    def _whole(self, place: Path, where: str) -> None:
        for name, digest in finished(place).items():
            if digest not in (self.expected.get(name), self.before.get(name)):
                self.wrong.append(f"{where}: {name} has its final name and is not whole")

    def _compare(self, place: Path) -> None:
        done = attempt(functools.partial(self.pipeline.run, self.given), place)
        self.counts["resumed"] += 1
        if done.code != 0:
            self.wrong.append(f"{place.name} did not go on: {done.code} {done.told[-2000:]}")
        found = finished(place)
        if found != self.expected:
            differing = sorted(n for n in found | self.expected if found.get(n) != self.expected.get(n))
            self.wrong.append(f"{place.name} ended with other content: {differing}")
        if left := leftovers(place):
            self.wrong.append(f"{place.name} left {left}")


def points(operations: int, most: int | None, draw: random.Random) -> Iterator[tuple[int, signal.Signals]]:
    """Before which operations to kill, and how: all of them both ways, or some spread evenly, in turns."""
    if most is None:
        yield from ((at, by) for at in range(1, operations + 1) for by in (KILL, INTERRUPT))
        return
    chosen = min(most, operations)
    for number in range(chosen):
        first, last = number * operations // chosen + 1, (number + 1) * operations // chosen
        yield draw.randint(first, last), (KILL, INTERRUPT)[number % 2]


def main() -> None:
    """See the module's docstring."""
    folder, seed, plan = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    provenance()  # asks git, once instead of in every fork
    for name, (most, moments) in plan.items():
        place = folder / name.replace(" ", "-")
        if not claimed(place):
            continue
        draw = random.Random(f"{seed} {name}")
        killed = Killed(PIPELINES[name], place, draw)
        killed.prepare()
        tried = list(points(killed.operations, most, draw))
        for at, by in tried:
            killed.try_operation(at, by)
        for _ in range(moments):
            killed.try_moment()
        told = {
            "pipeline": name,
            "operations": killed.operations,
            "tried": len({at for at, _ in tried}),
            "places": len(tried) + moments,
            "counts": dict(killed.counts),
            "wrong": killed.wrong,
        }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
