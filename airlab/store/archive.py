"""Finished artifacts outside of any store: a folder laid out as one is (`packed` makes a file of it).

An archive holds nothing but artifacts, so whatever else lies in it is refused: it came from somewhere else.
Nothing of it is believed before seal, identity and every byte were checked.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from airlab.errors import UserError
from airlab.store.copies import copy_artifact
from airlab.store.record import Damaged, Record, check_contents, read_sound_record
from airlab.store.stage import RECORD, Stage
from airlab.store.store import Store

_STAGE = re.compile(r"[a-z_]+")
_ARTIFACT = re.compile(r"(?:[a-z0-9_][a-z0-9._-]*-)?([0-9a-f]{12})")
"""Its digits, after a slug as a store writes them: no such name leads out of the folder."""


@dataclass(frozen=True)
class Transfer:
    """What became of the artifacts that were to be copied."""

    copied: tuple[Record, ...]
    already_there: tuple[Record, ...]


def digits_of(folder: Path) -> str:
    """What an artifact is known by, whatever its slug says: the end of its folder's name."""
    return folder.name.rpartition("-")[2]


def archived_folders(root: Path) -> tuple[Path, ...]:
    """The folder of every artifact in an archive, sorted.

    Raises:
        UserError: something in it is no artifact by its name.
    """
    return tuple(
        folder for parent in _folders(root, root, _STAGE) for folder in _folders(root, parent, _ARTIFACT)
    )


def read_archived(folder: Path) -> Record:
    """An archived artifact's record, after its seal, its identity and every byte were checked.

    Raises:
        UserError: something is not as it was when the artifact was finished.
    """
    try:
        names = _names(folder)
        record = read_sound_record(folder, digits_of(folder))
        # The name is what the store files it under, and only the identity is hashed.
        if not folder.parent.name == record.name == record.identity.get("stage"):
            raise Damaged(folder, "it holds the result of another stage")
        if added := sorted(names - record.manifest.keys() - {RECORD}):
            raise Damaged(folder, f"the file {added[0]} was added after it was finished")
        check_contents(folder, record)
    except Damaged as error:
        raise UserError(
            f"the artifact {_short(folder)} is damaged: {error.what}; get the archive again."
        ) from error
    return record


def archive(store: Store, stages: Iterable[Stage], root: Path) -> Transfer:
    """Copy finished artifacts of a store into an archive. All are checked before the first is copied.

    Raises:
        UserError: one is damaged or not finished, the archive has another with its fingerprint, or the disk
            does not take it.
    """
    there = Store(root)
    wanted, already = [], []
    for stage in stages:
        record, final = store.verify(stage), there.folder(stage)
        if not final.exists():
            wanted.append((store.folder(stage), final, record))
        elif read_archived(final).seal == record.seal:
            already.append(record)
        else:
            raise UserError(
                f"{_short(final)} was made by another run than the store's artifact of the same fingerprint; "
                "delete the archive to make it of this store's, or restore it into another store."
            )
    for source, final, record in wanted:
        copy_artifact(source, final, record)
    return Transfer(tuple(record for *_, record in wanted), tuple(already))


def restore(root: Path, store: Store) -> Transfer:
    """Copy an archive's artifacts into a store. All are checked before the first is copied.

    Raises:
        UserError: as `archived_folders`, `read_archived` and `Store.adopt` do.
    """
    found = [(folder, read_archived(folder)) for folder in archived_folders(root)]
    adopted = [(record, store.adopt(folder, record)) for folder, record in found]
    return Transfer(
        tuple(record for record, is_new in adopted if is_new),
        tuple(record for record, is_new in adopted if not is_new),
    )


def _folders(root: Path, parent: Path, names: re.Pattern[str]) -> list[Path]:
    paths = sorted(parent.iterdir())
    for path in paths:
        if path.is_symlink() or not path.is_dir() or not names.fullmatch(path.name):
            raise UserError(f"{path.relative_to(root)} is no archived artifact; get the archive again.")
    return paths


def _names(folder: Path) -> set[str]:
    """The files of an artifact, none of which is read before it is known to be its own."""
    names = set()
    for path in (folder, *folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise Damaged(folder, f"{name} is a link or a device and no file of its own")
        if path.is_file():
            names.add(name)
    return names


def _short(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"
