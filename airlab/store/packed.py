"""An archive as one compressed file: what its artifacts have in common is kept once.

The records of two models name the same items, so that thirty of them packed together take the room of four.
The same artifacts make the same file, byte for byte.
"""

import lzma
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from airlab.errors import UserError
from airlab.store import durable

_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]+")
"""Of files and folders, as stages write them; none of them leads out of an archive."""

_PRESET: Final = 9
"""xz's window of 64 MiB, in which one artifact finds what another has too."""


def pack(folder: Path, file: Path) -> None:
    """Write every file of an archive's folder into one.

    Raises:
        UserError: the file cannot be written, or the disk does not take it.
    """
    try:
        _pack(folder, file)
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise UserError(f"cannot write {file}: {error.strerror}; choose another folder.") from error


def _pack(folder: Path, file: Path) -> None:
    with (
        durable.written(file.absolute()) as temporary,
        tarfile.open(temporary, "w:xz", preset=_PRESET) as tar,
    ):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            member = tarfile.TarInfo(path.relative_to(folder).as_posix())  # without times and owners
            member.size = path.stat().st_size
            with path.open("rb") as stream:
                tar.addfile(member, stream)


def packed_folders(file: Path) -> set[Path]:
    """The folders of artifacts in a packed archive, relative to it.

    Raises:
        UserError: the file cannot be read, or holds something other than files of artifacts.
    """
    with _reading(file), tarfile.open(file, "r:xz") as tar:
        return {Path(*_parts(member)[:2]) for member in tar}


@contextmanager
def unpacked(file: Path) -> Iterator[Path]:
    """A temporary folder with the files of a packed archive; what they hold has not been checked.

    Raises:
        UserError: the file cannot be read, or holds something other than files of artifacts; or what is wrong
            with them in the eyes of the block, told with the file's name.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with _reading(file, folder), tarfile.open(file, "r:xz") as tar:
            for member in tar:
                _unpack(tar, member, folder)
        try:
            yield folder
        except UserError as error:
            raise UserError(f"{file}: {error}") from error


def _unpack(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    path, source = folder.joinpath(*_parts(member)), tar.extractfile(member)
    assert source is not None  # it is a regular file
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as target:
        shutil.copyfileobj(source, target)


def _parts(member: tarfile.TarInfo) -> list[str]:
    """Stage, artifact, and the names that lead to a file of it."""
    parts = member.name.split("/")
    if not member.isreg() or len(parts) < 3 or not all(map(_NAME.fullmatch, parts)):
        raise ValueError(f"{member.name!r} is no file of an artifact")
    return parts


@contextmanager
def _reading(file: Path, target: Path | None = None) -> Iterator[None]:
    """A sentence in place of the error where a packed archive cannot be read, or written out to `target`."""
    try:
        yield
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError) as error:
        raise UserError(
            f"{file} is no whole archive of airlab's ({error}); get it again, or delete it."
        ) from error
    except OSError as error:
        trouble = None if target is None else durable.disk_trouble(error, target, durable.size_of(target))
        raise trouble or UserError(f"cannot read {file}: {error.strerror}.") from error
