"""What a training run that has not ended leaves in its folder; read without torch."""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

CURVES = "curves.jsonl"
RESUME = "resume.safetensors"


@dataclass(frozen=True)
class Reached:
    """Up to where a run goes on from its checkpoint."""

    n_updates: int
    n_tokens: int


def read_reached(folder: Path) -> Reached | None:
    """Of the run in `folder`; None where there is no checkpoint, or none that can be read."""
    try:
        with safe_open(folder / RESUME, framework="np") as file:
            n_updates = int(json.loads(file.metadata()["facts"])["n_steps_done"])
        last = (folder / CURVES).read_text().splitlines()[n_updates - 1]
        return Reached(n_updates, int(json.loads(last)["tokens"]))
    except (OSError, SafetensorError, ValueError, KeyError, IndexError):
        return None
