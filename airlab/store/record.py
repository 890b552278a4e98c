"""record.json: what an artifact is, what is in it, and where it came from. No record, no artifact."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import JsonValue

from airlab.errors import UserError
from airlab.schema.base import Frozen
from airlab.store.fingerprint import dump_canonical, fingerprint, identity
from airlab.store.provenance import provenance
from airlab.store.stage import ATTEMPTS, RECORD, Stage, Workdir


class Entry(Frozen):
    """One file of an artifact."""

    size: int
    """Bytes."""
    sha256: str


class Input(Frozen):
    """An input's stage name and full fingerprint."""

    name: str
    fingerprint: str


class Record(Frozen):
    """Everything known about a finished artifact."""

    schema_version: Literal[1]
    name: str
    version: int
    fingerprint: str
    identity: dict[str, JsonValue]
    """What was hashed: its canonical bytes have `fingerprint` as their sha-256."""
    inputs: tuple[Input, ...]
    notes: dict[str, JsonValue]
    manifest: dict[str, Entry]
    """Relative name → size and hash, for every file but the record itself."""
    provenance: dict[str, JsonValue]
    started: str
    """UTC, ISO 8601, of the attempt that finished."""
    ended: str
    wall_s: float
    """Seconds over all attempts (see `Workdir.wall_s`)."""
    seal: str
    """sha-256 over the canonical JSON of all the above, so that an edit by hand is noticed."""


INPUTS_WALL = "inputs_wall_s"
"""In a record's provenance: fingerprint of each input → seconds, since inputs are thrown away before what
they were for."""


def make_record(
    stage: Stage, work: Workdir, started: str, ended: str, inputs_wall_s: Mapping[str, float]
) -> Record:
    """Describe the files that now lie in `work`, reading each once to hash it."""
    content: dict[str, Any] = {
        "schema_version": 1,
        "name": stage.name,
        "version": stage.VERSION,
        "fingerprint": fingerprint(stage),
        "identity": identity(stage),
        "inputs": [{"name": item.name, "fingerprint": fingerprint(item)} for item in stage.inputs()],
        "notes": work.notes,
        "manifest": {name: entry.model_dump() for name, entry in _manifest(work.folder).items()},
        "provenance": {**provenance(), INPUTS_WALL: dict(inputs_wall_s)},
        "started": started,
        "ended": ended,
        "wall_s": work.wall_s,
    }
    return Record.model_validate_json(dump_canonical({**content, "seal": _seal(content)}))


class Damaged(UserError):
    """An artifact is not what it was; `what` says in which respect."""

    def __init__(self, folder: Path, what: str) -> None:
        super().__init__(f"the artifact {folder} is damaged: {what}; delete that folder and run again.")
        self.what = what


def read_record(folder: Path, stage: Stage) -> Record:
    """Read and check the record of `stage` in `folder`: its seal, full fingerprint, and files' sizes.

    Raises:
        Damaged: if anything is not as it was when the stage finished.
    """
    return read_sound_record(folder, fingerprint(stage))


def read_sound_record(folder: Path, address: str) -> Record:
    """The same for whoever knows no more of a stage than its fingerprint, or how it begins."""
    try:
        record = Record.model_validate_json((folder / RECORD).read_bytes())
        content = record.model_dump(mode="json")
        is_sealed = content.pop("seal") == _seal(content)
    except (OSError, ValueError) as error:  # a number that is none is read, and has no canonical form
        raise Damaged(folder, f"its {RECORD} cannot be read") from error
    if not is_sealed:
        raise Damaged(folder, f"its {RECORD} was changed after it was written")
    if hashlib.sha256(dump_canonical(content["identity"])).hexdigest() != record.fingerprint:
        raise Damaged(folder, f"the identity in its {RECORD} does not have the recorded fingerprint")
    if not record.fingerprint.startswith(address):
        raise Damaged(folder, "it holds the result of another stage")
    for name, entry in record.manifest.items():
        path = folder / name
        if not path.is_file():
            raise Damaged(folder, f"its file {name} is missing")
        if path.stat().st_size != entry.size:
            raise Damaged(folder, f"its file {name} has {path.stat().st_size} bytes instead of {entry.size}")
    return record


def check_contents(folder: Path, record: Record) -> None:
    """Hash every file again; Damaged if one differs or is unknown."""
    now = _manifest(folder)
    for name in sorted(now.keys() | record.manifest.keys()):
        if name not in record.manifest:
            raise Damaged(folder, f"the file {name} was added after it was finished")
        if now.get(name) != record.manifest[name]:
            raise Damaged(folder, f"its file {name} was changed after it was finished")


def _seal(content: dict[str, Any]) -> str:
    return hashlib.sha256(dump_canonical(content)).hexdigest()


def _manifest(folder: Path) -> dict[str, Entry]:
    entries = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise RuntimeError(f"{name} is a link; an artifact must hold its own files")
        if path.is_file() and name not in (RECORD, ATTEMPTS):
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            entries[name] = Entry(size=path.stat().st_size, sha256=digest)
    return entries
