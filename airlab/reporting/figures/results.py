"""What figures are drawn from: the files of one results folder, each read once and named as a source."""

import csv
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from airlab.errors import UserError
from airlab.reporting.formats import UNKNOWN
from airlab.reporting.lock import LOCK, Lock, read_lock

ESTIMATES = "estimates.json"
SELECTIONS = "selections.json"
"""What each selector took, by domain."""

GATHERED = "figures.json"
"""What the store alone knows, gathered for figures (`airlab report experiment=...`)."""

FORMAT = "airlab-figures/1"

Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Results:
    """One folder of published results.

    What is not there reads as None or no rows: a figure that would need it is not drawn.
    """

    folder: Path

    @cached_property
    def lock(self) -> Lock:
        """What the results were made from."""
        try:
            return read_lock(self.folder)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise self._broken(LOCK, error) from None

    @cached_property
    def prefix(self) -> str:
        """Digits that no other folder's figures have in their ids: they follow from its lock."""
        assert self.lock.cells  # what cannot be read is said before anything is drawn
        return hashlib.sha256((self.folder / LOCK).read_bytes()).hexdigest()[:8]

    @cached_property
    def estimates(self) -> dict[str, Any] | None:
        """The table's numbers, unrounded."""
        return self._json(ESTIMATES)

    @cached_property
    def gathered(self) -> dict[str, Any] | None:
        """What was gathered from the store."""
        found = self._json(GATHERED)
        if found is not None and found.get("format") != FORMAT:
            raise self._broken(GATHERED, f"its format is not {FORMAT}")
        return found

    def rows(self, name: str) -> Rows:
        """The rows of a page's long form, `<name>.csv`."""
        path = self.folder / f"{name}.csv"
        if not path.is_file():
            return []
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))

    def text(self, name: str) -> str:
        """A file's text; empty where there is none."""
        path = self.folder / name
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def _json(self, name: str) -> dict[str, Any] | None:
        path = self.folder / name
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise self._broken(name, error) from None
        if not isinstance(found, dict):
            raise self._broken(name, "it holds no object")
        return found

    def _broken(self, name: str, why: object) -> UserError:
        return UserError(f"{self.folder / name} cannot be read ({why}); restore it or write it again.")


def value_of(text: str) -> float | None:
    """A number of a long form; None for an empty cell, which is unknown."""
    return float(text) if text else None


def in_words(name: str) -> str:
    """A variant's or selector's name as it is shown; a spreadsheet's apostrophe goes."""
    return name.removeprefix("'").replace("_", " ")


def signed(value: float | None, digits: int = 2) -> str:
    """A difference with its sign; a rounded zero is positive."""
    return UNKNOWN if value is None else f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")
