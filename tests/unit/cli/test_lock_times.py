"""What a lock says of times is what was measured."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from airlab.cli.experiment import _wall_by_stage
from airlab.schema.machine import Machine
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store


@dataclass(frozen=True)
class Written(Stage):
    """One word in a file."""

    VERSION: ClassVar[int] = 1
    word: str

    def run(self, work: Workdir, machine: Machine) -> None:
        with work.writing("text") as path:
            path.write_text(self.word)


@dataclass(frozen=True)
class Copied(Written):
    """Another kind."""


def test_a_kind_of_which_an_artifact_is_gone_has_no_time(tmp_path: Path) -> None:
    plan = Plan(Store(tmp_path), [Written("a"), Written("b"), Copied("c")])
    plan.run(Machine())
    known = _wall_by_stage(plan, plan.wall_s)
    assert known.keys() == {"written", "copied"} and all(known.values())
    left = {address: wall for address, wall in plan.wall_s.items() if address != fingerprint(Written("a"))}
    assert _wall_by_stage(plan, left) == known | {"written": 0.0}
