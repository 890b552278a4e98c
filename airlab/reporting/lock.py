"""``lock.json`` beside a table: which artifacts it came from, and on what it was made."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LOCK = "lock.json"
FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_PATH = re.compile(r"(?:^|[\s\"'=:(])(?:~?/[\w.-]+|[A-Za-z]:[\\/])")


@dataclass(frozen=True)
class Lock:
    """What a published table follows from.

    `cells` maps a cell's name to the fingerprint of the artifact behind it, `provenance` holds the facts
    of `airlab.store.provenance` (commit, packages, hardware, Python) where the table was written,
    `machines` what the artifacts were made on (see `airlab.store.plan.Plan.machines`), `wall_s` the seconds
    of all artifacts of each stage (0 where some are unknown), `pages` the names of the Markdown files,
    without suffix.
    """

    cells: dict[str, str]
    provenance: dict[str, Any]
    machines: tuple[dict[str, Any], ...]
    wall_s: dict[str, float]
    pages: tuple[str, ...]

    @property
    def untimed(self) -> tuple[str, ...]:
        """Stages of which some seconds are unknown, by name."""
        return tuple(sorted(name for name, seconds in self.wall_s.items() if not seconds))


def write_lock(
    folder: Path,
    cells: Mapping[str, str],
    provenance: Mapping[str, Any],
    machines: Sequence[Mapping[str, Any]],
    wall_s: Mapping[str, float],
    pages: Sequence[str],
) -> None:
    """Write the lock of the table in `folder`.

    Raises ValueError for a fingerprint that is none, for no cells at all, and for anything that looks
    like a path of this machine: a lock is published.
    """
    if not cells:
        raise ValueError("a lock without cells says nothing")
    for name, fingerprint in cells.items():
        if not FINGERPRINT.fullmatch(fingerprint):
            raise ValueError(f"the fingerprint of {name} is {fingerprint!r}, not 64 hexadecimal digits")
    lock = asdict(
        Lock(
            dict(cells),
            dict(provenance),
            tuple(map(dict, machines)),
            {name: round(value, 3) for name, value in wall_s.items()},
            tuple(pages),
        )
    )
    _refuse_paths(lock, "lock")
    text = json.dumps(lock, indent=1, sort_keys=True, allow_nan=False)
    (folder / LOCK).write_text(text + "\n", encoding="utf-8", newline="\n")


def read_lock(folder: Path) -> Lock:
    """The lock of the table in `folder`."""
    data = json.loads((folder / LOCK).read_text(encoding="utf-8"))
    return Lock(**data | {name: tuple(data[name]) for name in ("machines", "pages")})


def _refuse_paths(value: object, where: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _refuse_paths(key, where)
            _refuse_paths(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_paths(inner, where)
    elif isinstance(value, str) and _PATH.search(value):
        raise ValueError(f"{where} holds what looks like a path of this machine: {value!r}")
