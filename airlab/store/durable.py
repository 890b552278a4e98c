"""Writing so that a name on the disk always means a whole file, even after a power cut."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airlab.errors import UserError

WRITING = ".writing-"
"""Prefix of unfinished names; the rest, with its suffix, is the final name."""

_NOTHING_BYTES = 1 << 16
"""Free space below which a write that failed without a reason failed for want of it."""


def sync(path: Path) -> None:
    """Flush one file or folder entry to the device."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Flush a file, or a folder with everything below it, children first."""
    if path.is_dir():
        for child in sorted(path.iterdir()):
            sync_tree(child)
    sync(path)


def remove(path: Path) -> None:
    """Delete a file or a folder; nothing happens if it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes in a file or in all files below a folder; 0 if there is nothing."""
    if path.is_dir():
        return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
    return path.stat().st_size if path.exists() else 0


@contextmanager
def written(final: Path) -> Iterator[Path]:
    """A hidden temporary path beside `final`: flushed and renamed on success, removed on any error.

    The block may make a file or a folder of it. An earlier `final` is replaced.

    Raises:
        UserError: if the disk is full.
        RuntimeError: if the block created nothing.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(WRITING + final.name)
    remove(temporary)
    try:
        yield temporary
        if not temporary.exists():
            raise RuntimeError(f"nothing was written to {temporary.name}")
        sync_tree(temporary)
        if final.is_dir():  # rename replaces files atomically but refuses folders that hold something
            shutil.rmtree(final)
        temporary.replace(final)
        sync(final.parent)
    except BaseException as error:
        full = disk_full(error, final, size_of(temporary))
        remove(temporary)
        if full is not None:
            raise full from error
        raise


def disk_full(error: BaseException, path: Path, written_bytes: int) -> UserError | None:
    """The sentence for the user if `error` means that the disk is full, else None.

    Libraries wrap the system's error in their own types, hence the walk along the causes and the look
    at the words; NumPy and PyTorch drop it altogether, hence the look at the disk.
    """
    free = shutil.disk_usage(_existing(path)).free
    link: BaseException | None = error
    while link is not None:
        code = getattr(link, "errno", None)
        told = code in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(link)
        untold = isinstance(link, OSError | RuntimeError) and code is None and free < _NOTHING_BYTES
        if told or untold:
            return UserError(
                f"the disk is full: {path} needs more than the {(written_bytes + free) / 2**20:,.1f} MiB "
                f"there is room for; free some space and run the same command again, it continues from what "
                f"is finished."
            )
        link = link.__cause__ or link.__context__
    return None


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
