"""Who measures which shard, since when, and how it ended: a small file a shard, beside the shards.

For whoever looks on. The shards themselves say what is done; a note is no part of any result, and goes when
the shards do. A process that is killed leaves its note as it was.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from airlab.text.documents import Shard

NOTES = "shards/notes"
"""Folder of the notes inside a stage's."""


@dataclass(frozen=True)
class ShardNote:
    """One shard, as the process that measures it tells."""

    first: int
    units: int
    of_shards: int
    """How many shards there are."""
    worker: str
    """What it is called where it was started, such as `worker 2` or `task 7 of 40`."""
    host: str
    process: int
    began: float
    """Seconds of the host's clock."""
    state: Literal["running", "measured", "failed"] = "running"
    spent_s: float = 0.0
    """Until it ended."""
    why: str = ""
    """Of a failure, on one line."""

    @property
    def is_gone(self) -> bool:
        """Whether it was being measured by a process of this host that is no more."""
        if self.state != "running" or self.host != socket.gethostname():
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # somebody else's
            return False
        return False


@contextmanager
def noted(part: Path, shard: Shard, of_shards: int, worker: str) -> Iterator[None]:
    """Tell of a shard while the block measures it, and afterwards how it went.

    Args:
        part: the stage's unfinished folder.
    """
    began = time.time()
    note = ShardNote(
        shard.first, shard.documents, of_shards, worker, socket.gethostname(), os.getpid(), began
    )
    _write(part, note)
    try:
        yield
    except BaseException as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        with suppress(OSError):  # the error is told, not that the disk does not take its note
            _write(part, replace(note, state="failed", spent_s=time.time() - began, why=why))
        raise
    _write(part, replace(note, state="measured", spent_s=time.time() - began))


def read_notes(part: Path) -> list[ShardNote]:
    """All notes of an unfinished folder, by shard; those that go away meanwhile are left out."""
    notes = []
    for path in sorted((part / NOTES).glob("[0-9]*.json")):
        with suppress(FileNotFoundError):
            notes.append(ShardNote(**json.loads(path.read_text())))
    return notes


def _write(part: Path, note: ShardNote) -> None:
    """Whole or not at all, but not flushed: a note that a power cut takes was of no use any more."""
    folder = part / NOTES
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"{note.first:012d}.json"
    temporary = final.with_name(f"writing-{final.name}-{note.process}")
    temporary.write_text(json.dumps(asdict(note)))
    temporary.replace(final)
