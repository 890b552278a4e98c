"""Killed before any operation on the disk and at random moments, twice, everything ends in the same bytes."""

import json
from typing import Any

import pytest

from tests.faults.ledger import FULL, count
from tests.faults.warm import in_halves, lines, started

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
    "scoring documents": (56, 14),
    "mixture building": (ALL, 20),
    "pretraining": (ALL, 10),
    "selection": (None, 10),
    "tabulation": (None, 10),
    "scoring steps": (40, 10),
    "detection": (40, 10),
    "evaluation": (14, 4),
    "fine-tuning": (ALL, 5),
    "exporting": (ALL, 5),
    "explaining": (20, 5),
}
"""Pipeline → how many of its operations (None for all of them both ways, ALL for all of them by SIGKILL and
SIGINT in turns), and how many random moments."""

PLAN = WHOLE if FULL else SHORT


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the program found, by pipeline."""

    def kill(names: list[str]) -> list[Any]:
        folder, plan = tmp_path_factory.mktemp("kills"), {name: PLAN[name] for name in names}
        return lines(started("tests.faults.kills.kill_all", str(folder), str(SEED), json.dumps(plan)))

    return {line["pipeline"]: line for line in in_halves(kill, list(PLAN))}


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
    faults = kills + interrupts + found["counts"].get("children", 0)
    count("kills", f"{name}: {operations}, {moments} random moments", faults=faults)
