"""Killed before any operation on the disk and at random moments, twice, everything ends in the same bytes."""

import json
from functools import partial
from typing import Any

import pytest

from tests.faults.ledger import FULL, count
from tests.faults.warm import shared, started

SEED = 9

ALL = 10_000
SHORT = {
    "selection": (3, 0),
    "mixture building": (4, 1),
    "tabulation": (2, 0),
    "pretraining": (2, 0),
    "fine-tuning": (1, 0),
    "detection": (1, 0),
    "scoring documents": (2, 1),
    "scoring steps": (1, 0),
}
WHOLE = {
    "evaluation": (ALL, 14),
    "scoring documents": (60, 20),
    "scoring steps": (45, 15),
    "fine-tuning": (60, 10),
    "mixture building": (ALL, 20),
    "detection": (45, 15),
    "pretraining": (ALL, 10),
    "tabulation": (None, 10),
    "selection": (None, 10),
    "exporting": (ALL, 5),
    "explaining": (20, 5),
}
"""Pipeline → how many of its operations (None for all of them both ways, ALL for all of them by SIGKILL and
SIGINT in turns), and how many random moments; those that take longest first."""
PLACES = 50
"""At how many each of what the papers' methods are made of must be killed in the full form."""
BESIDES = {"exporting", "explaining"}
"""What users do with results."""

PLAN = WHOLE if FULL else SHORT


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the program found, by pipeline."""

    folder = str(tmp_path_factory.mktemp("kills"))
    program = partial(started, "tests.faults.kills.kill_all", folder, str(SEED), json.dumps(PLAN))
    return {line["pipeline"]: line for line in shared(program)}


@pytest.mark.parametrize("name", PLAN)
def test_killed_and_interrupted_twice_gives_the_same_bytes(told: dict[str, Any], name: str) -> None:
    found = told[name]
    assert found["wrong"] == []
    most, moments = PLAN[name]
    assert found["tried"] == (found["operations"] if most is None else min(most, found["operations"]))
    assert found["counts"].get("moments", 0) == moments
    kills, interrupts = (found["counts"].get(signal, 0) for signal in ("SIGKILL", "SIGINT"))
    assert kills + interrupts >= 2 * found["tried"]
    assert not FULL or name in BESIDES or found["places"] >= PLACES
    operations = f"{found['tried']} of {found['operations']} operations on the disk"
    faults = kills + interrupts + found["counts"].get("children", 0)
    count("kills", f"{name}: {operations}, {moments} random moments", faults=faults)
