"""Whether a finished artifact is still what it was, without reading all of it every time it is opened.

A file is read again only if its times say that it may have been touched since all of it was last known to be
right. The record keeps that moment: its modification time is set to the very second at which the stage ended,
which no copy and no editor does by itself, and the system notes when that was done (its change time).

- A file that is edited, however it is edited, is changed later than the record: it is read, and found out.
- A copy that keeps modification times: files copied after the record are read once; one that was edited
  before has a modification time after the stage's end, and is read.
- A copy that does not: the record no longer has its time, and everything is read once.
"""

import datetime
import hashlib
import os
from contextlib import suppress
from pathlib import Path

from airlab.store.record import Damaged, Record
from airlab.store.stage import ATTEMPTS, RECORD

_NS = 10**9


def mark(folder: Path, record: Record) -> None:
    """Every byte of the folder was just read or written: remember it, where the folder can be written to."""
    with suppress(OSError):
        os.utime(folder / RECORD, ns=(_ended(record), _ended(record)))


def mark_copy(folder: Path, record: Record) -> None:
    """The same of a copy, whose files are newer than the stage's end and would be read at every opening."""
    for name in record.manifest:
        with suppress(OSError):
            os.utime(folder / name, ns=(_ended(record), _ended(record)))
    mark(folder, record)


def check_untouched(folder: Path, record: Record) -> None:
    """Compare the names of all files with the record, and the contents of those that may have been touched.

    Raises:
        Damaged: a file was added, or changed without changing its size.
    """
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    if added := sorted(names - record.manifest.keys() - {RECORD, ATTEMPTS}):
        raise Damaged(folder, f"the file {added[0]} was added after it was finished")
    suspects = _suspects(folder, record)
    for name in suspects:
        with (folder / name).open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != record.manifest[name].sha256:
                raise Damaged(folder, f"its file {name} was changed after it was finished")
    if suspects:
        mark(folder, record)


def _suspects(folder: Path, record: Record) -> list[str]:
    own = (folder / RECORD).stat()
    if own.st_mtime_ns != _ended(record):
        return list(record.manifest)
    suspects = []
    for name in record.manifest:
        facts = (folder / name).lstat()
        # Within one tick of the clock nobody can tell which was first.
        if facts.st_ctime_ns >= own.st_ctime_ns or facts.st_mtime_ns >= own.st_mtime_ns + _NS:
            suspects.append(name)
    return suspects


def _ended(record: Record) -> int:
    return int(datetime.datetime.fromisoformat(record.ended).timestamp()) * _NS
