"""Records of the user's data that are broken by themselves: refused one and all, or set aside and counted.

A record is set aside only where those around it can still be read and it can be counted: a line that is not
JSON, a value of the wrong type, a row group of a Parquet file. A file that cannot be trusted as a whole, such
as a compressed one cut short, is refused in any case: nobody could say how much of it is missing.
"""

import hashlib
from array import array
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from airlab.errors import UserError
from airlab.text.documents import ROWS_PER_GROUP, TableWriter

_LONGEST_DETAIL = 300

SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("row", pa.int64()),
        ("offset", pa.int64()),
        ("unit_id", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
"""The file's name inside of a folder (nothing for a single file); the line, from 1, or the row of a table,
from 0; the byte, decompressed, at which a line begins; the id where it is known; why, in short and whole."""


class Place(NamedTuple):
    """Where a record stands in the user's data."""

    source: str
    """The file as the user knows it, or the data set in words."""
    member: str = ""
    """Its name inside of a folder."""
    unit: str = ""
    """What is counted: lines (from 1), rows, documents or traces (from 0); nothing for the whole source."""
    number: int = 0
    offset: int | None = None
    """The byte, decompressed, at which a line begins."""

    def __str__(self) -> str:
        return f"{self.unit} {self.number} of {self.source}" if self.unit else self.source


class Broken(UserError):
    """A record that is broken by itself.

    Args:
        place: where it stands.
        reason: a few words, the same for all that are broken alike.
        told: what follows the place in a sentence that says what is wrong and what to do.
        unit_id: its id, where it is known.
    """

    def __init__(self, place: Place, reason: str, told: str, unit_id: str | None = None) -> None:
        super().__init__(f"{place} {told}")
        self.place, self.reason, self.told, self.unit_id = place, reason, told, unit_id

    def of(self, place: Place, unit_id: str | None = None) -> "Broken":
        """The same, found while this record was read."""
        return Broken(place, self.reason, self.told, self.unit_id or unit_id)


class Sieve(Protocol):
    """What becomes of broken records while rows are read."""

    first: Broken | None
    """The first that was found and did not end the reading."""

    def broken(self, found: Broken) -> None:
        """A record was found broken; raises to end the reading."""

    def repeated(self, unit_id: str) -> bool:
        """Whether a sound record with this id came before and is one to be told."""


class Refuse:
    """The first broken record ends the reading; repeated ids are whoever reads' to find."""

    first: Broken | None = None

    def broken(self, found: Broken) -> None:
        raise found

    def repeated(self, unit_id: str) -> bool:
        return False


class Digests:
    """Which ids a first reading sees more than once, in eight bytes an id.

    Two ids may share their eight bytes: what is found is suspected, and a second reading tells.
    """

    def __init__(self) -> None:
        self._seen = array("Q")

    def add(self, unit_id: str) -> None:
        self._seen.append(digest(unit_id))

    def suspects(self) -> frozenset[int]:
        """Digests that were seen more than once."""
        values, counts = np.unique(np.frombuffer(self._seen, dtype=np.uint64), return_counts=True)
        return frozenset(int(value) for value in values[counts > 1])


def digest(unit_id: str) -> int:
    """Eight bytes that stand for an id."""
    short = hashlib.blake2b(unit_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(short, "big")


class Unnoticed:
    """Passes over broken records, in a first reading that only looks at ids."""

    def __init__(self) -> None:
        self.first: Broken | None = None

    def broken(self, found: Broken) -> None:
        self.first = self.first or found

    def repeated(self, unit_id: str) -> bool:
        return False


class Quarantine:
    """The table of broken records; of several with one id, the first sound one is kept."""

    def __init__(self, path: Path, rows_per_group: int = ROWS_PER_GROUP) -> None:
        self._writer = TableWriter(path, SCHEMA, rows_per_group)
        self._suspects: frozenset[int] = frozenset()
        self._seen: set[str] = set()
        self.first: Broken | None = None
        self.reasons: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """Records set aside."""
        return self._writer.count

    def counts(self) -> dict[str, object]:
        """How many were set aside, and why."""
        return {"quarantined": self.count, "quarantined_by_reason": dict(sorted(self.reasons.items()))}

    def suspect(self, suspects: frozenset[int]) -> None:
        """Look out for ids with these digests."""
        self._suspects = suspects

    def broken(self, found: Broken) -> None:
        self.first = self.first or found
        self.reasons[found.reason] += 1
        place = found.place
        row: Any = (place.member, place.number, place.offset, found.unit_id, found.reason, found.told)
        self._writer.add(tuple(_text(value) if isinstance(value, str) else value for value in row))

    def repeated(self, unit_id: str) -> bool:
        if digest(unit_id) not in self._suspects:
            return False
        if unit_id in self._seen:
            return True
        self._seen.add(unit_id)
        return False

    def __enter__(self) -> "Quarantine":
        self._writer.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._writer.__exit__(*error)


def _text(value: str) -> str:
    """What Parquet can hold of any string, and no more than one wants to read."""
    short = value if len(value) <= _LONGEST_DETAIL else value[: _LONGEST_DETAIL - 1] + "…"
    return short.encode("utf-8", "backslashreplace").decode()
