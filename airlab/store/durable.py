"""Writing so that a name on the disk always means a whole file, even after a power cut."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from airlab.errors import UserError

WRITING = ".writing-"
"""Prefix of unfinished names; the rest, with its suffix, is the final name."""

REPLACED = ".replaced-"
"""Prefix of what had a final name until another took it."""

_NOTHING_BYTES = 1 << 16
"""Free space below which a write that failed without a reason failed for want of it."""

_REFUSED = (errno.EROFS, errno.EIO, errno.EFBIG)

_CONTINUES = "run the same command again, it continues from what is finished."


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

    The block may make a file or a folder of it. An earlier `final` is replaced. One process at a time may
    write what has the same name, see `alone`.

    Raises:
        UserError: if the disk does not take it, see `disk_trouble`.
        RuntimeError: if the block created nothing.
    """
    temporary, replaced = final.with_name(WRITING + final.name), final.with_name(REPLACED + final.name)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        remove(temporary)
        if replaced.exists() and not final.exists():  # stopped between the two renames below
            replaced.rename(final)
        yield temporary
        if not temporary.exists():
            raise RuntimeError(f"nothing was written to {temporary.name}")
        sync_tree(temporary)
        if final.is_dir():
            # rename replaces files atomically but refuses folders that hold something, and one that is being
            # deleted must not have the final name
            remove(replaced)
            final.rename(replaced)
        temporary.replace(final)
        sync(final.parent)
        remove(replaced)
    except BaseException as error:
        trouble = disk_trouble(error, final, size_of(temporary))
        with suppress(OSError):  # the error is told, not what it does to tidying up
            remove(temporary)
        if trouble is not None:
            raise trouble from error
        raise


@contextmanager
def alone(final: Path) -> Iterator[None]:
    """Wait until no other process writes `final`; the turn of one that dies ends with it.

    For names outside the store, whose stages have leases: two commands may be told the same output.

    Raises:
        UserError: if the disk does not take the lock, see `disk_trouble`, or the folder takes no files.
    """
    lock = filelock.FileLock(_lock_of(final))
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        # By ourselves first: where a folder takes no files at all, the lock would wait for ever.
        os.close(os.open(_lock_of(final), os.O_CREAT | os.O_RDWR))
        lock.acquire()
    except OSError as error:
        trouble = disk_trouble(error, final, 0) or UserError(
            f"{final.parent} takes no new files ({os.strerror(error.errno or errno.EIO).lower()}): choose "
            f"another place for {final.name}."
        )
        raise trouble from error
    try:
        yield
    finally:
        _lock_of(final).unlink(missing_ok=True)  # ours still: who waits for it looks for a new one
        lock.release()


def tidy(final: Path) -> None:
    """Clear away what a process that was killed left beside `final`; waits for one that still writes it."""
    temporary = final.with_name(WRITING + final.name)
    if _lock_of(final).exists() or temporary.exists():
        with alone(final):
            remove(temporary)


def _lock_of(final: Path) -> Path:
    return final.with_name(WRITING + final.name + ".lock")


def disk_trouble(error: BaseException, path: Path, written_bytes: int) -> UserError | None:
    """The sentence for the user if `error` means that a disk does not take what is written, else None.

    Libraries wrap the system's error in their own types, hence the walk along the causes and the look
    at the words; NumPy and PyTorch drop it altogether, hence the look at the disk.

    Args:
        path: what is written, unless the error names something on another disk.
        written_bytes: what there is of it so far.
    """
    link: BaseException | None = error
    while link is not None:
        named = _on_another_disk(getattr(link, "filename", None), path)
        where, size = (path, written_bytes) if named is None else (named, 0)
        free = shutil.disk_usage(_existing(where)).free
        code = getattr(link, "errno", None)
        told = code in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(link)
        untold = isinstance(link, OSError | RuntimeError) and code is None and free < _NOTHING_BYTES
        if told and _is_crowded(where):
            return UserError(
                f"the disk takes no more files: {where} needs more of them; delete some, and {_CONTINUES}"
            )
        if told or untold:
            return UserError(
                f"the disk is full: {where} needs more than the {(size + free) / 2**20:,.1f} MiB "
                f"there is room for; free some space and {_CONTINUES}"
            )
        words = next((os.strerror(c) for c in _REFUSED if c == code or os.strerror(c) in str(link)), None)
        if words is not None:
            return UserError(
                f"the disk does not take what is written to {where}: {words.lower()}; mend that, or choose "
                f"another disk, and {_CONTINUES}"
            )
        if isinstance(link, FileNotFoundError) and tempfile.tempdir and not Path(tempfile.tempdir).is_dir():
            return UserError(
                f"the folder of temporary files {tempfile.tempdir} went away; make it again, or set TMPDIR "
                f"to another, and {_CONTINUES}"
            )
        link = link.__cause__ or link.__context__
    return None


def _is_crowded(path: Path) -> bool:
    """Whether its disk counts files and has as many as it can."""
    disk = os.statvfs(_existing(path))
    return disk.f_files > 0 and disk.f_favail == 0


def _on_another_disk(named: object, path: Path) -> Path | None:
    if not isinstance(named, str | os.PathLike):
        return None
    found = Path(os.fspath(named))
    return found if _existing(found).stat().st_dev != _existing(path).stat().st_dev else None


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.absolute().parent)
