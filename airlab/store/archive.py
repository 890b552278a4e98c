"""Finished artifacts outside of any store: a folder laid out as one is, to be kept or carried elsewhere.

It holds nothing but artifacts, so whatever else lies there is refused: it came from somewhere else, or
is half of what was on its way.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from airlab.errors import UserError
from airlab.store import durable
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


def archived_folders(root: Path) -> tuple[Path, ...]:
    """The folder of every artifact in an archive, sorted.

    Raises:
        UserError: there is no such archive, or something in it is no artifact by its name.
    """
    try:
        return tuple(folder for parent in _folders(root, _STAGE) for folder in _folders(parent, _ARTIFACT))
    except OSError as error:
        raise UserError(f"cannot read the archive {root}: {error.strerror}.") from error


def read_archived(folder: Path) -> Record:
    """An archived artifact's record, after its seal, its identity and every byte were checked.

    Raises:
        UserError: something is not as it was when the artifact was finished.
    """
    try:
        names = _names(folder)
        record = read_sound_record(folder, folder.name[-12:])
        # The name is what the store files it under, and only the identity is hashed.
        if not folder.parent.name == record.name == record.identity.get("stage"):
            raise Damaged(folder, "it holds the result of another stage")
        if added := sorted(names - record.manifest.keys() - {RECORD}):
            raise Damaged(folder, f"the file {added[0]} was added after it was finished")
        check_contents(folder, record)
    except Damaged as error:
        raise UserError(
            f"the archived artifact {folder} is damaged: {error.what}; copy it again from where it was made, "
            "or delete it."
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {error.filename or folder}: {error.strerror}.") from error
    return record


def archive(store: Store, stages: Iterable[Stage], root: Path) -> Transfer:
    """Copy finished artifacts of a store into an archive. All are checked before the first is copied.

    Raises:
        UserError: one is damaged or not finished, the archive has another with its fingerprint, or the disk
            does not take it.
    """
    try:
        return _archive(store, stages, root)
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise UserError(f"cannot write to {root}: {error.strerror}; choose another output.") from error


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


def _archive(store: Store, stages: Iterable[Stage], root: Path) -> Transfer:
    there = Store(root)
    wanted, already = [], []
    for stage in stages:
        record, final = store.verify(stage), there.folder(stage)
        durable.tidy(final)
        if _is_archived(record, final):
            already.append(record)
        else:
            wanted.append((store.folder(stage), final, record))
    copied = []
    for folder, final, record in wanted:
        with durable.alone(final):
            if _is_archived(record, final):  # by another process meanwhile
                already.append(record)
            else:
                copy_artifact(folder, final, record)
                copied.append(record)
    return Transfer(tuple(copied), tuple(already))


def _is_archived(record: Record, final: Path) -> bool:
    if not final.exists() and not final.is_symlink():
        return False
    if read_archived(final).seal != record.seal:
        raise UserError(
            f"{final} was made by another run than the store's artifact of the same fingerprint; delete that "
            "folder, or choose another output."
        )
    return True


def _folders(parent: Path, names: re.Pattern[str]) -> list[Path]:
    paths = sorted(parent.iterdir())
    for path in paths:
        if path.is_symlink() or not path.is_dir() or not names.fullmatch(path.name):
            raise UserError(
                f"{path} is no archived artifact; delete it, or give a folder that airlab archive made."
            )
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
