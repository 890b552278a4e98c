"""Selection from more units than fit in memory: the rule of `select`, with the order kept on disk."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from airlab.schema.selection import Selecting
from airlab.selection.select import refuse_infinite, taken_before

_ROWS = 1 << 13
"""Units in memory at once."""
_CACHE_KIB = 2048


class Part(NamedTuple):
    """Some of the chosen units, in the order in which they were added."""

    unit_id: list[str]
    domain: list[str]
    n_tokens: np.ndarray
    """int64"""
    score: np.ndarray
    """float64"""


class InDomain(NamedTuple):
    """What was chosen of a domain, and what there is."""

    domain: str
    units: int
    of_units: int
    tokens: int
    of_tokens: int


class UnitsOnDisk:
    """Scored units in a file without a name, which the system removes when this process ends.

    Memory: a byte a unit, and what SQLite is allowed to keep, whatever the number of units. Sorting is
    SQLite's, which merges sorted pieces on the disk. The file lies where SQLite keeps its temporary files
    ($SQLITE_TMPDIR, else /var/tmp, else /tmp), and takes about 50 bytes a unit besides the ids, twice while
    it is sorted.
    """

    def __init__(self) -> None:
        self._file = sqlite3.connect("")
        self._file.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._file.execute("PRAGMA temp_store = FILE")
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute("CREATE TABLE units (id TEXT, domain INTEGER, tokens INTEGER, score REAL)")
        self._domains: dict[str, int] = {}
        self._infinite, self._first_infinite = 0, ""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, unit_id: np.ndarray, domain: np.ndarray, n_tokens: np.ndarray, score: np.ndarray) -> None:
        """Add units, see `select`."""
        bad = np.flatnonzero(~np.isfinite(score))
        if len(bad) and not self._infinite:
            self._first_infinite = str(unit_id[bad[0]])
        self._infinite += len(bad)
        self._count += len(unit_id)
        for name in np.unique(domain):
            self._domains.setdefault(str(name), len(self._domains))
        numbers = (self._domains[name] for name in domain)
        rows = zip(unit_id.tolist(), numbers, n_tokens.tolist(), score.tolist(), strict=True)
        self._file.executemany("INSERT INTO units VALUES (?, ?, ?, ?)", rows)

    def repeated(self) -> str | None:
        """An id that several units have."""
        found = self._file.execute("SELECT id FROM units GROUP BY id HAVING count(*) > 1 LIMIT 1").fetchone()
        return None if found is None else str(found[0])

    def choose(self, spec: Selecting) -> np.ndarray:
        """The same units as `select` chooses: a boolean array [units].

        Raises:
            UserError: a score that is not a finite number.
        """
        if self._infinite:
            refuse_infinite(self._infinite, self._first_infinite)
        group = "domain" if spec.scope == "domain" else "0"
        totals = f"SELECT {group}, count(*), sum(tokens) FROM units GROUP BY 1"
        left = {number: taken_before(spec, *sizes) for number, *sizes in self._file.execute(totals)}
        before: Counter[int] = Counter()
        chosen = np.zeros(self._count, dtype=bool)
        # Texts are ordered by their bytes, which is the order of their characters.
        order = f"SELECT {group}, rowid, tokens FROM units ORDER BY 1, score DESC, id"
        for number, row, tokens in self._file.execute(order):
            if before[number] < left[number] or not before[number]:
                chosen[row - 1] = True
                before[number] += 1 if spec.unit == "documents" else tokens
        return chosen

    def parts(self, chosen: np.ndarray) -> Iterator[Part]:
        """The chosen units, a part at a time."""
        names = list(self._domains)
        rows = self._file.execute("SELECT id, domain, tokens, score FROM units ORDER BY rowid")
        for first in range(0, self._count, _ROWS):
            kept = [
                row
                for row, take in zip(rows.fetchmany(_ROWS), chosen[first : first + _ROWS], strict=True)
                if take
            ]
            if kept:
                unit_id, domain, tokens, score = zip(*kept, strict=True)
                yield Part(
                    list(unit_id),
                    [names[number] for number in domain],
                    np.array(tokens, np.int64),
                    np.array(score, np.float64),
                )

    def by_domain(self, chosen: np.ndarray) -> list[InDomain]:
        """How much was chosen of every domain, in the order of their names."""
        units, tokens = Counter[str](), Counter[str]()
        for part in self.parts(chosen):
            units.update(part.domain)
            for name, count in zip(part.domain, part.n_tokens.tolist(), strict=True):
                tokens[name] += count
        totals = "SELECT domain, count(*), sum(tokens) FROM units GROUP BY domain"
        sizes = {number: sizes for number, *sizes in self._file.execute(totals)}
        return [
            InDomain(name, units[name], sizes[number][0], tokens[name], sizes[number][1])
            for name, number in sorted(self._domains.items())
        ]
