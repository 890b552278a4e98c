"""A full, read-only, failing or slow disk loses nothing: one sentence, and the same bytes once mended."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.faults.ledger import FULL, count
from tests.faults.warm import started

OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")
MOUNTED = ("full", "read-only")

SHORT = {
    "mixture building": {"full": 2, "read-only": None, "failing": 2, "limited": 1, "slow": 1},
    "pretraining": {"full": 2},
    "selection": {"full": None, "failing": 1},
}
WHOLE = {
    "detection": {"full": 12, "read-only": None, "limited": None, "failing": 8},
    "scoring documents": {"full": 12, "read-only": None, "limited": None, "failing": 8, "slow": 5},
    "scoring steps": {"full": 12, "failing": 8},
    "selection": {"full": None, "read-only": None, "limited": None, "failing": None, "slow": 3},
    "mixture building": {"full": 60, "read-only": None, "limited": None, "failing": None, "slow": 10},
    "pretraining": {"full": 30, "read-only": None, "limited": None, "failing": None, "slow": 5},
    "fine-tuning": {"full": 20, "read-only": None, "failing": 10},
    "evaluation": {"full": 4, "failing": 4},
    "tabulation": {"full": None, "read-only": None, "limited": None, "failing": None, "slow": 3},
}
"""Pipeline → disk → how many of its sizes or moments, None for all."""


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
    done = started(
        "tests.faults.disk.break_all",
        str(tmp_path_factory.mktemp("disks")),
        json.dumps(asked),
        through=OWN_MOUNTS if mounts else (),
        **({"AIRLAB_FAULTS_MOUNTS": "1"} if mounts else {}),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {(line["pipeline"], line["disk"]): line for line in map(json.loads, done.stdout.splitlines())}


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
    count("disk", f"{name}: {disk} disks", faults=found["tried"])
