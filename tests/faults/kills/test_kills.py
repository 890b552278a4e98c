"""Killed before any operation on the disk and at random moments, twice, everything ends in the same bytes."""

import json
from typing import Any

import pytest

from tests.faults.ledger import FULL, count
from tests.faults.warm import started

SEED = 9

SHORT = {
    "selection": (3, 0),
    "mixture building": (4, 1),
    "tabulation": (2, 0),
    "pretraining": (2, 1),
    "fine-tuning": (1, 0),
    "detection": (1, 1),
    "scoring documents": (2, 1),
    "scoring steps": (1, 0),
    "evaluation": (0, 0),
}
WHOLE = {
    "selection": (None, 10),
    "mixture building": (None, 20),
    "tabulation": (None, 10),
    "pretraining": (None, 20),
    "fine-tuning": (60, 10),
    "detection": (50, 10),
    "scoring documents": (60, 20),
    "scoring steps": (50, 10),
    "evaluation": (20, 5),
}
"""Pipeline → how many of its operations (None for all, both ways) and how many random moments."""

PLAN = {name: plan for name, plan in (WHOLE if FULL else SHORT).items() if plan != (0, 0)}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the program found, by pipeline."""
    folder = tmp_path_factory.mktemp("kills")
    done = started("tests.faults.kills.kill_all", str(folder), str(SEED), json.dumps(PLAN))
    found = {line["pipeline"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, done.stderr[-3000:]
    return found


@pytest.mark.parametrize("name", PLAN)
def test_killed_and_interrupted_twice_gives_the_same_bytes(told: dict[str, Any], name: str) -> None:
    found = told[name]
    assert found["wrong"] == []
    most, moments = PLAN[name]
    assert found["tried"] == (found["operations"] if most is None else min(most, found["operations"]))
    assert found["counts"].get("moments", 0) == moments
    kills, interrupts = (found["counts"].get(signal, 0) for signal in ("SIGKILL", "SIGINT"))
    assert kills + interrupts >= 2 * found["tried"]
    operations = f"{found['tried']} of {found['operations']} operations on the disk"
    count("kills", f"{name}: {operations}, {moments} random moments", faults=kills + interrupts)
