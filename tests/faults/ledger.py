"""What the fault suite counts: each test says what it broke, what it tried and what was lost.

`make test-faults` runs everything and writes the counts into docs/faults.md (see `write_page.py`); without
`AIRLAB_FAULTS=full` the same tests run in their short form, with fewer moments and inputs.
"""

import json
import os
from pathlib import Path

FULL = os.environ.get("AIRLAB_FAULTS") == "full"
"""Every moment and input, or the short form that runs with all other tests."""


def count(area: str, what: str, *, faults: int = 0, inputs: int = 0, lost: int = 0) -> None:
    """Add to the counts of an area ("kills", "disk", "data", …), under a few words that the page shows.

    `faults` were injected and survived, `inputs` were tried and each scored, skipped, quarantined or refused,
    `lost` are records that are in none of these (a test that loses one fails besides).
    """
    if path := os.environ.get("AIRLAB_FAULTS_LEDGER"):
        line = {"area": area, "what": what, "faults": faults, "inputs": inputs, "lost": lost}
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
