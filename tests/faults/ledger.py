"""What the fault suite counts: each test says what it broke, what it tried and what was lost.

`make test-faults` runs everything and writes the counts into docs/faults.md (see `write_page.py`); without
`AIRLAB_FAULTS=full` the same tests run in their short form, with fewer moments and inputs.

A ledger may hold several sessions, so that a run that was cut off goes on with the folders that are left:
`AIRLAB_FAULTS=full AIRLAB_FAULTS_LEDGER=FILE python -m pytest tests/faults/disk tests/faults/load`.
`python -m tests.faults.ledger` prints the digest of the code that is here, which a page names.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CODE = ("airlab", "configs", "experiments", "tests")
"""Folders whose files decide what a test finds."""
FULL = os.environ.get("AIRLAB_FAULTS") == "full"
"""Every moment and input, or the short form that runs with all other tests."""


def count(area: str, what: str, *, faults: int = 0, inputs: int = 0, lost: int = 0) -> None:
    """Add to the counts of an area ("kills", "disk", "data", …), under a few words that the page shows.

    `faults` were injected and survived, `inputs` were tried and each scored, skipped, quarantined or refused,
    `lost` are records that are in none of these (a test that loses one fails besides).
    """
    write({"area": area.replace(" ", "_"), "what": what, "faults": faults, "inputs": inputs, "lost": lost})


def write(line: dict[str, Any]) -> None:
    """Add a line of this session to the ledger, if there is one."""
    if path := os.environ.get("AIRLAB_FAULTS_LEDGER"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"session": os.environ["AIRLAB_FAULTS_SESSION"], **line}) + "\n")


def code_digest() -> str:
    """SHA-256 over names and contents of the code and of the versions it runs with."""
    files = [path for folder in CODE for path in (ROOT / folder).rglob("*") if path.is_file()]
    told = hashlib.sha256()
    for path in sorted([*files, ROOT / "constraints.txt"]):
        if path.suffix in (".py", ".yaml", ".txt"):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            told.update(f"{path.relative_to(ROOT).as_posix()} {digest}\n".encode())
    return told.hexdigest()


if __name__ == "__main__":
    print(code_digest())
