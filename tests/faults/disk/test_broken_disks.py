"""A full, read-only, failing or slow disk loses nothing: one sentence, and the same bytes once mended."""

import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.faults.ledger import FULL, count
from tests.faults.warm import shared, started

OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")
MOUNTED = ("full", "crowded", "read-only")

DISKS = {
    "full": "on disks full after any page",
    "crowded": "on disks that take no more files, after any file",
    "read-only": "on read-only disks",
    "failing": "on disks that fail to flush",
    "limited": "where files may not be long",
    "slow": "killed while a slow disk flushes",
}

SHORT = {
    "mixture building": {"full": 2, "read-only": None, "failing": 2, "limited": 1, "slow": 1},
    "pretraining": {"full": 2},
    "selection": {"full": None, "crowded": None, "failing": 1},
}
WHOLE = {
    "fine-tuning": {"full": None, "crowded": None, "read-only": None, "failing": 8, "slow": 3},
    "pretraining": {
        "full": None,
        "crowded": None,
        "read-only": None,
        "limited": None,
        "failing": None,
        "slow": 4,
    },
    "scoring documents": {
        "full": None,
        "crowded": None,
        "read-only": None,
        "limited": None,
        "failing": 16,
        "slow": 4,
    },
    "scoring steps": {"full": None, "crowded": None, "failing": 8},
    "mixture building": {
        "full": None,
        "crowded": None,
        "read-only": None,
        "limited": None,
        "failing": 50,
        "slow": 6,
    },
    "evaluation": {"full": None, "crowded": None, "read-only": None, "failing": None, "slow": 3},
    "detection": {"full": None, "crowded": None, "read-only": None, "limited": None, "failing": 8},
    "tabulation": {
        "full": None,
        "crowded": None,
        "read-only": None,
        "limited": None,
        "failing": None,
        "slow": 3,
    },
    "selection": {
        "full": None,
        "crowded": None,
        "read-only": None,
        "limited": None,
        "failing": None,
        "slow": 3,
    },
}
"""Pipeline → disk → how many of its sizes or moments, None for all; those that take longest first."""


def may_mount(folder: Path) -> bool:
    """Whether this user may mount in a namespace of their own; some systems forbid it."""
    command = [*OWN_MOUNTS, "mount", "-t", "tmpfs", "none", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def mounts(tmp_path_factory: pytest.TempPathFactory) -> bool:
    return may_mount(tmp_path_factory.mktemp("mount"))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, mounts: bool) -> dict[tuple[str, str], Any]:
    """What the program found, by pipeline and disk."""
    asked = {
        name: {disk: most for disk, most in disks.items() if mounts or disk not in MOUNTED}
        for name, disks in (WHOLE if FULL else SHORT).items()
    }
    through, environment = (OWN_MOUNTS, {"AIRLAB_FAULTS_MOUNTS": "1"}) if mounts else ((), {})

    folder = str(tmp_path_factory.mktemp("disks"))
    program = partial(
        started, "tests.faults.disk.break_all", folder, json.dumps(asked), through=through, **environment
    )
    return {(line["pipeline"], line["disk"]): line for line in shared(program)}


@pytest.mark.parametrize(
    ("name", "disk"), [(n, d) for n, disks in (WHOLE if FULL else SHORT).items() for d in disks]
)
def test_a_broken_disk_is_told_in_a_sentence_and_a_mended_one_holds_the_same_bytes(
    told: dict[tuple[str, str], Any], mounts: bool, name: str, disk: str
) -> None:
    if disk in MOUNTED and not mounts:
        pytest.skip("this system lets no user mount a disk of their own (unshare --user --mount)")
    found = told[name, disk]
    assert found["wrong"] == []
    assert found["tried"] > 0
    count("disk", f"{name} {DISKS[disk]}", faults=found["tried"])
