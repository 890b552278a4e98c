"""What a training run that has not ended leaves in its folder; read without torch."""

import json
from dataclasses import dataclass
from pathlib import Path

CURVES = "curves.jsonl"
RESUME = "resume"
"""Folder of the checkpoint."""
INDEX = "index.json"
"""In it; see `airlab.training.checkpoint`."""


@dataclass(frozen=True)
class Reached:
    """Up to where a run goes on from its checkpoint."""

    n_updates: int
    n_tokens: int


def read_reached(folder: Path) -> Reached | None:
    """Of the run in `folder`; None where there is no checkpoint, or none that can be read."""
    try:
        n_updates = int(json.loads((folder / RESUME / INDEX).read_text())["n_steps_done"])
        last = (folder / CURVES).read_text().splitlines()[n_updates - 1]
        return Reached(n_updates, int(json.loads(last)["tokens"]))
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None
