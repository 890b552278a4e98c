"""Where numbers come from: a lock's fingerprints in groups, and which group a row's numbers belong to."""

from collections.abc import Mapping
from dataclasses import dataclass

from airlab.reporting.figures.results import in_words
from airlab.reporting.lock import Lock

DEFAULT = "default"
"""The setting whose arms a table shows, where an experiment has several."""


@dataclass(frozen=True)
class Entry:
    """The artifacts behind one arm: cells that differ in their seed or draw."""

    name: str
    anchor: str
    """Without the section's own, which is put before it."""
    cells: tuple[tuple[str, str], ...]
    """Name and fingerprint."""


def entries(lock: Lock) -> tuple[Entry, ...]:
    """All cells of a lock, sorted, in groups."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for cell, fingerprint in sorted(lock.cells.items()):
        groups.setdefault(cell.rpartition("/")[0] or cell, []).append((cell, fingerprint))
    # Named by place and not by arm: a name may hold anything, an anchor may not.
    return tuple(
        Entry(name, f"cells-{number}", tuple(cells)) for number, (name, cells) in enumerate(groups.items(), 1)
    )


def anchors(found: tuple[Entry, ...]) -> Mapping[str, str]:
    """Arm or setting, as tables write it -> anchor of its artifacts."""
    known: dict[str, str] = {}
    for entry in found:
        setting, _, arm = entry.name.partition("/")
        for name in (entry.name, arm if setting == DEFAULT else "", setting):
            if name:
                known.setdefault(in_words(name), entry.anchor)
    return known
