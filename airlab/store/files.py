"""The user's own files, known by what is in them and not by where they lie."""

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from airlab.errors import UserError
from airlab.progress import progress

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Files:
    """A file or folder identified by its content.

    A single file's name is no part of it, so a stage whose reading depends on the suffix needs the
    format as a field of its own. In a folder the relative names count.
    """

    sha256: str
    """64 hex digits over the content (see `Files.of`)."""
    path: Path = field(compare=False, repr=False)
    """Where the bytes were found; excluded from comparison and from every fingerprint."""
    seen: tuple[tuple[str, int, int, int, int], ...] = field(default=(), compare=False, repr=False)
    """Name, inode, size and times of each file when it was hashed; as little part of any of them."""

    @classmethod
    def of(cls, path: Path) -> "Files":
        """Hash a file, or every file below a folder with its relative name, streaming.

        Raises:
            UserError: if nothing is there, a folder holds no file, or something in it cannot be read.
        """
        path = Path(path)
        if not path.exists():
            raise UserError(f"{path} does not exist; check the path.")
        try:
            names = [""] if path.is_file() else _names_below(path)
            if not names:
                raise UserError(f"the folder {path} holds no files; give one that does.")
            members = [path / name if name else path for name in names]
            for member in members:
                if member.exists() and not member.is_file():  # a pipe would be waited for, forever
                    raise UserError(f"{member} is no file but a pipe or a device; give the files themselves.")
            total = sum(member.stat().st_size for member in members)
            seen = tuple(_stamp(name, member) for name, member in zip(names, members, strict=True))
            with progress(f"reading {path.name}", "bytes", total) as advance:
                rows = []
                for name, member in zip(names, members, strict=True):
                    digest = hashlib.sha256()
                    with member.open("rb") as stream:
                        while chunk := stream.read(_CHUNK_BYTES):
                            digest.update(chunk)
                            advance(len(chunk))
                    rows.append([name, digest.hexdigest()])
        except OSError as error:
            raise UserError(f"cannot read {error.filename or path}: {error.strerror or error}.") from error
        return cls(hashlib.sha256(json.dumps(rows).encode()).hexdigest(), path, seen)

    def check(self) -> None:
        """Hash the files again if they look touched since they were hashed.

        Raises:
            UserError: they hold something else by now.
        """
        now = Files.of(self.path) if self._touched() else self
        if now.sha256 != self.sha256:
            raise UserError(
                f"{self.path} was changed while it was used; run again with files that stay the same."
            )

    def _touched(self) -> bool:
        try:
            names = [""] if self.path.is_file() else _names_below(self.path)
            now = tuple(_stamp(name, self.path / name if name else self.path) for name in names)
        except OSError:
            return True
        return now != self.seen


def _stamp(name: str, path: Path) -> tuple[str, int, int, int, int]:
    facts = path.stat()
    return name, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _names_below(folder: Path) -> list[str]:
    names = []
    for parent, folders, files in os.walk(folder):
        for name in folders:
            if Path(parent, name).is_symlink():
                raise UserError(f"{Path(parent, name)} links to a folder; put the files themselves there.")
        names += [Path(parent, name).relative_to(folder).as_posix() for name in files]
    return sorted(names)
