"""A stage: a frozen value that says what is to be made, and how it may touch the disk."""

import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from pydantic import BaseModel

from airlab.schema.machine import Machine
from airlab.store import durable
from airlab.store.files import Files

RECORD = "record.json"
ATTEMPTS = ".attempts.json"
"""In an unfinished folder: what earlier attempts noted and how long they took."""

PART = ".part"
"""Suffix of an unfinished folder, whose name is the whole fingerprint."""

TRACKING = "tracking"
"""Folder of a store for curves that somebody looks at while a stage runs; no part of any artifact."""

LEASE = ".lease-"
"""Prefix of the lock file of whoever works on a stage; the rest is the whole fingerprint."""

CLAIM = ".claim-"
"""The same of whoever works towards a stage, see `Store.claim`."""


@dataclass(frozen=True)
class Stage:
    """One step from inputs to an artifact. Subclass with ``@dataclass(frozen=True)``.

    Every field is identity: strings, whole and finite numbers, None, tuples, frozen pydantic values,
    `Files`, and other stages, which are its inputs. Paths, devices and clocks are not among them.
    """

    VERSION: ClassVar[int]
    """Raised by hand when the meaning of the result changes; moves the address."""

    def run(self, work: "Workdir", machine: Machine) -> None:
        """Make the artifact's files in `work`. `machine` must not change them beyond rounding."""
        raise NotImplementedError

    def slug(self) -> str:
        """A readable start for the folder's name; no part of the identity."""
        return ""

    @property
    def name(self) -> str:
        """The class name in snake_case: the stage's word in the store, the plan and the records."""
        return word_of(type(self))

    def inputs(self) -> tuple["Stage", ...]:
        """The stages among the fields, also inside tuples and values, in the order of the fields."""
        return tuple(item for item in self._found() if isinstance(item, Stage))

    def own_files(self) -> tuple[Files, ...]:
        """The user's own files among the fields, found in the same way; those of inputs are the inputs'."""
        return tuple(item for item in self._found() if isinstance(item, Files))

    def _found(self) -> Iterator["Stage | Files"]:
        return _found_in([getattr(self, field.name) for field in dataclasses.fields(self)])


def word_of(kind: type[Stage]) -> str:
    """The name of a class of stages, without one of its values."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind.__name__).lower()


def _found_in(value: object) -> Iterator[Stage | Files]:
    if isinstance(value, Stage | Files):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _found_in(item)
    elif isinstance(value, dict):
        yield from _found_in(list(value.values()))
    elif isinstance(value, BaseModel):
        yield from _found_in([getattr(value, name) for name in type(value).model_fields])
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _found_in([getattr(value, field.name) for field in dataclasses.fields(value)])


class Workdir:
    """A stage's unfinished folder, held by this process alone while the stage runs."""

    def __init__(
        self, folder: Path, find_input: Callable[[Stage], Path], tracking: Path | None = None
    ) -> None:
        self.folder = folder
        self.tracking = tracking
        """Outside of the artifact, for curves that are looked at while the stage runs; None for none."""
        self._find_input = find_input
        self._clock = time.monotonic()
        self._earlier_s = 0.0
        self._notes: dict[str, Any] = {}
        for leftover in sorted(folder.rglob(durable.WRITING + "*"), reverse=True):
            durable.remove(leftover)
        if (folder / ATTEMPTS).exists():
            earlier = json.loads((folder / ATTEMPTS).read_text())
            self._earlier_s, self._notes = earlier["wall_s"], earlier["notes"]

    def path(self, name: str) -> Path:
        """The place of `name` (may contain folders, which are made). Only `writing` makes it whole."""
        parts = PurePosixPath(name)
        if parts.is_absolute() or not parts.parts or ".." in parts.parts:
            raise ValueError(f"{name!r} is not a name inside the stage's folder")
        if any(part.startswith(durable.WRITING) for part in parts.parts) or str(parts) in (RECORD, ATTEMPTS):
            raise ValueError(f"{name!r} is kept for the store")
        path = self.folder / parts
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def input(self, stage: Stage) -> Path:
        """The finished folder of an input; read only. ValueError if `stage` is not a field of this one."""
        return self._find_input(stage)

    def has(self, name: str) -> bool:
        """Whether `name` was finished, by this attempt or an earlier, interrupted one."""
        return self.path(name).exists()

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A temporary path that becomes `name` when the block ends without error: the unit of resume.

        Raises:
            UserError: if the disk is full; everything finished before stays for the next attempt.
        """
        with durable.written(self.path(name)) as temporary:
            yield temporary
        self.save_attempt()

    def note(self, **facts: Any) -> None:
        """Facts for the record (counts, seconds): JSON values, no identity. Later ones replace earlier.

        Notes of an interrupted attempt are kept. TypeError or ValueError for what JSON cannot say.
        """
        self._notes.update(json.loads(json.dumps(facts, allow_nan=False, ensure_ascii=False).encode()))
        self.save_attempt()

    @property
    def notes(self) -> dict[str, Any]:
        """All notes so far."""
        return dict(self._notes)

    @property
    def wall_s(self) -> float:
        """Seconds spent by this attempt and, up to their last finished file, by earlier ones."""
        return self._earlier_s + time.monotonic() - self._clock

    def save_attempt(self) -> None:
        """Keep notes and time spent, should this attempt not live to write the record."""
        with durable.written(self.folder / ATTEMPTS) as temporary:
            temporary.write_text(json.dumps({"wall_s": self.wall_s, "notes": self._notes}))
