"""What lies in a store, looked at from outside: nothing is made, held, hashed or removed."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from airlab.store.durable import WRITING
from airlab.store.record import Damaged, Record, read_sound_record
from airlab.store.stage import ATTEMPTS, LEASE, PART, RECORD

_FINISHED = re.compile(r"(?:.*-)?([0-9a-f]{12})")
_UNFINISHED = re.compile(r"([0-9a-f]{64})" + re.escape(PART))
_LOCKS = Path("/proc/locks")


@dataclass(frozen=True)
class Artifact:
    """A finished folder."""

    stage: str
    folder: Path
    record: Record | None
    damage: str | None
    """What is wrong with it, as far as record, names and sizes tell; it has no record then."""
    n_bytes: int
    """On the disk."""


@dataclass(frozen=True)
class Unfinished:
    """A `.part` folder."""

    stage: str
    folder: Path
    fingerprint: str
    kept: Mapping[str, int]
    """Finished files by the folder that they lie in, which is "" for those that lie in none."""
    n_bytes: int
    began: float
    """When its oldest file was written, in seconds of the system's clock; so is `last`, of its newest."""
    last: float
    spent_s: float
    """All attempts, up to their last finished file."""
    worker: int | None
    """Process that works on it; None for nobody."""


@dataclass(frozen=True)
class Inventory:
    """All that stages left, sorted by stage and name."""

    finished: tuple[Artifact, ...]
    unfinished: tuple[Unfinished, ...]
    tells_workers: bool
    """Whether this system says who holds a lock."""


def take_inventory(root: Path) -> Inventory:
    """Look at every artifact and every unfinished folder below a store's root.

    What other processes rename or delete meanwhile is left out.
    """
    holders = lock_holders()
    finished: list[Artifact] = []
    unfinished: list[Unfinished] = []
    for parent in sorted(path for path in root.glob("*") if path.is_dir()):
        for folder in sorted(path for path in parent.iterdir() if path.is_dir()):
            if folder.name.startswith(WRITING):
                continue  # an artifact that is being copied
            if begun := _UNFINISHED.fullmatch(folder.name):
                part = _unfinished(folder, begun[1], holders or {})
                unfinished += [part] if part is not None else []
            elif ended := _FINISHED.fullmatch(folder.name):
                artifact = _artifact(folder, ended[1])
                finished += [artifact] if artifact is not None else []
    return Inventory(tuple(finished), tuple(unfinished), holders is not None)


def lock_holders() -> dict[int, int] | None:
    """Which process holds a lock on the file with which inode; None where the system does not tell.

    Trying a lock would tell it too, and could make a process wait that asks for it at that moment.
    """
    try:
        lines = _LOCKS.read_text().splitlines()
    except OSError:
        return None
    holders = {}
    for line in lines:
        _, kind, *rest = line.split()
        if kind != "->":  # those only wait
            process, file = rest[2], rest[3]
            # Not the device: that of a file in a layered file system is told differently here.
            holders[int(file.rpartition(":")[2])] = int(process)
    return holders


def _artifact(folder: Path, digits: str) -> Artifact | None:
    record, damage = None, None
    try:
        record = read_sound_record(folder, digits)
        if record.name != folder.parent.name:
            record, damage = None, "it holds the result of another stage"
    except Damaged as error:
        damage = error.what
    if not folder.exists():
        return None
    n_bytes = sum(size for _, size, _ in _files(folder))
    return Artifact(folder.parent.name, folder, record, damage, n_bytes)


def _unfinished(folder: Path, fingerprint: str, holders: Mapping[int, int]) -> Unfinished | None:
    files = list(_files(folder))
    lease = folder.with_name(LEASE + fingerprint)
    try:
        times = [folder.stat().st_mtime, *(time for _, _, time in files)]
        worker = holders.get(lease.stat().st_ino) if lease.exists() else None
    except FileNotFoundError:
        return None
    names = [name for name, _, _ in files]
    whole = [n for n in names if n not in (ATTEMPTS, RECORD) and WRITING not in n]
    return Unfinished(
        folder.parent.name,
        folder,
        fingerprint,
        Counter(name.rpartition("/")[0] for name in whole),
        sum(size for _, size, _ in files),
        min(times),
        max(times),
        _spent(folder),
        worker,
    )


def _files(folder: Path) -> Iterator[tuple[str, int, float]]:
    """Relative name, bytes and time of the last change of every file."""
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            with suppress(FileNotFoundError):
                facts = path.stat()
                yield path.relative_to(folder).as_posix(), facts.st_size, facts.st_mtime


def _spent(folder: Path) -> float:
    try:
        return float(json.loads((folder / ATTEMPTS).read_text())["wall_s"])
    except (OSError, ValueError, KeyError):
        return 0.0  # nothing was finished yet, or it is being written
