"""The user's documents or traces with all their columns, and those of them that were chosen.

What is exported is what was given: columns that mean nothing here go along, values as they were.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from airlab.errors import UserError
from airlab.schema.text import HubDataset
from airlab.text.quarantine import Broken, Place
from airlab.text.readers import ID_NAMES, TEXT_NAMES, hub_records
from airlab.text.records import (
    Format,
    Read,
    format_of,
    json_lines,
    members_of,
    open_parquet,
    open_saved,
    suffix_format,
    table_records,
)

LICENCE_NAMES = ("licence", "license", "licenses")
SOURCE_NAMES = ("source",)

_MANY = 1000
"""Different licences or sources that are counted one by one; with more the rest is counted together."""
REST = "all others"


@dataclass(frozen=True)
class Whole:
    """A file, folder or data set to be read from the start as often as is needed."""

    name: str
    """In words for the user."""
    schema: pa.Schema | None
    """None where records say for themselves what they hold."""
    read: Callable[[], Iterator[Read]]


def open_whole(path: Path) -> Whole:
    """A file or folder. `UserError` if it is missing, empty or of an unknown type."""
    kind = format_of(path)
    if kind == "folder":
        members = [(member, suffix_format(member.name) or "jsonl") for member in members_of(path)]
        return Whole(
            str(path),
            _common([_schema(*member) for member in members], path),
            lambda: itertools.chain.from_iterable(_records(*member) for member in members),
        )
    return Whole(str(path), _schema(path, kind), lambda: _records(path, kind))


def open_hub(hub: HubDataset) -> Whole:
    """One split of a hub data set at its pinned commit, streamed each time."""
    return Whole(f"{hub.name} at {hub.revision}", None, lambda: hub_records(hub, "document"))


def _schema(path: Path, kind: Format) -> pa.Schema | None:
    if kind == "parquet":
        with open_parquet(path) as (schema, _):
            return schema
    return open_saved(path)[0] if kind == "saved data set" else None


def _common(schemas: list[pa.Schema | None], path: Path) -> pa.Schema | None:
    if any(schema is None for schema in schemas):
        return None
    try:
        return pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UserError(
            f"the files in {path} hold columns of different types ({error}): export one at a time."
        ) from None


def _records(path: Path, kind: Format) -> Iterator[Read]:
    source = Place(str(path))
    if kind == "parquet":
        with open_parquet(path) as (schema, batches):
            yield from table_records(batches, source, schema.names)
    elif kind == "saved data set":
        schema, batches = open_saved(path)
        yield from table_records(batches, source, schema.names)
    else:
        yield from json_lines(source, kind)


@dataclass
class Counts:
    """What was met on the way: in = exported + not selected + broken."""

    given: int = 0
    exported: int = 0
    broken: int = 0
    licences: Counter[str] = field(default_factory=Counter)
    """Of what was exported; no entry where no column says it."""
    sources: Counter[str] = field(default_factory=Counter)

    @property
    def not_selected(self) -> int:
        return self.given - self.exported - self.broken


@dataclass(frozen=True)
class Chosen:
    """Which records are exported, and what is known of each.

    Attributes:
        scores: by id.
        score_column: the name under which scores go along.
        id, text: columns, or None to find them by their usual names.
    """

    scores: Mapping[str, float]
    score_column: str
    id: str | None = None
    text: str | None = None

    def records(self, whole: Whole, counts: Counts) -> Iterator[tuple[str, dict[str, Any]]]:
        """The chosen records with their scores, by id, in the order of the input; fills `counts`.

        Memory: a record, and the ids that were chosen.

        Raises:
            UserError: a chosen id is missing or stands there twice, or the scores' column is taken.
        """
        found: set[str] = set()
        for number, (place, record) in enumerate(whole.read()):
            counts.given += 1
            if isinstance(record, Broken):
                counts.broken += 1
                continue
            unit_id = self._unit_id(record, number)
            if unit_id not in self.scores:
                continue
            if unit_id in found:
                raise UserError(
                    f"{place} has the id '{unit_id}' of a selected document before it, and nobody can say "
                    "which of the two was meant: make the ids unique and score again."
                )
            if self.score_column in record:
                raise UserError(
                    f"{whole.name} has a column '{self.score_column}' of its own: give the scores another "
                    f"name, score_column=airlab_score, say."
                )
            found.add(unit_id)
            counts.exported += 1
            _count(counts.licences, record, LICENCE_NAMES)
            _count(counts.sources, record, SOURCE_NAMES)
            yield unit_id, {**record, self.score_column: self.scores[unit_id]}
        absent = [unit_id for unit_id in self.scores if unit_id not in found]
        if absent:
            raise UserError(
                f"{len(absent)} of {len(self.scores)} selected ids are not in {whole.name} (the first is "
                f"'{absent[0]}'): give the very input that was scored, and input.id as it was given then."
            )

    def _unit_id(self, record: Mapping[str, Any], number: int) -> str:
        name = self.id or next((name for name in ID_NAMES if name in record), None)
        return f"row-{number:08d}" if name is None else str(record.get(name))

    def text_column(self, record: Mapping[str, Any], where: str) -> str:
        """The column of a record that holds its text. `UserError` if it has none."""
        name = self.text or next((name for name in TEXT_NAMES if name in record), None)
        if name is None or not isinstance(record.get(name), str):
            raise UserError(
                f"{where} has no text in {name or 'any column with a usual name'}, and this format is of "
                f"text: set input.text to one of its columns, {', '.join(record)}; reasoning traces are "
                "exported as .jsonl, .parquet or format=dataset."
            )
        return name


def _count(counter: Counter[str], record: Mapping[str, Any], names: Iterable[str]) -> None:
    name = next((name for name in names if name in record), None)
    if name is not None:
        value = record[name]
        told = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        told = "not said" if value is None or not told.strip() else told
        counter[told if told in counter or len(counter) < _MANY else REST] += 1
