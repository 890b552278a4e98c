"""The user's own documents: JSON lines (plain, gzip, zstd), Parquet, a saved data set, a hub data set.

All readers stream. They yield one `Row` a document, in the order of the input. What is not a document goes to
a `Sieve`, which ends the reading with a `UserError` of one sentence or counts it.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from airlab.errors import UserError
from airlab.schema.text import Columns, HubDataset
from airlab.text.quarantine import Broken, Place, Refuse, Sieve
from airlab.text.records import (
    Batches,
    Format,
    Read,
    all_broken,
    is_text,
    json_lines,
    json_type,
    members_of,
    open_parquet,
    open_saved,
    row_groups,
    suffix_format,
    table_records,
    two_columns,
)

TEXT_NAMES = ("text", "content", "document")
ID_NAMES = ("id", "unit_id", "doc_id", "uuid")
DOMAIN_NAMES = ("domain", "source_domain", "subset")

_REFUSE = Refuse()
_REPEATED = "has the id '{}' of a document before it: make the ids unique or set input.id to another column."


class Row(NamedTuple):
    """One document as the user gave it."""

    unit_id: str
    domain: str
    text: str
    id_type: str
    """``str``, ``int`` (kept as decimal digits), or ``position`` where the input has no ids."""


class ChosenColumns(NamedTuple):
    """The columns to read; id and domain are None where the input has none."""

    text: str
    id: str | None
    domain: str | None


def read_rows(path: Path, kind: Format, columns: Columns, sieve: Sieve = _REFUSE) -> Iterator[Row]:
    """All documents of a file or folder of that format.

    Errors: `UserError` for a damaged file or an input without documents. Told to the sieve: a line that is
    not JSON, a missing or non-text column, an id that is no string or whole number, rows that are damaged.
    """
    if kind not in get_args(Format):
        raise UserError(f"There is no format '{kind}': choose one of {', '.join(get_args(Format))}.")
    counter = itertools.count()
    if kind == "folder":
        rows: Iterator[Row] = itertools.chain.from_iterable(
            _read_file(member, suffix_format(member.name) or "jsonl", columns, counter, sieve, member.name)
            for member in members_of(path)
        )
    elif kind == "saved data set":
        rows = _read_saved(path, columns, counter, sieve)
    else:
        rows = _read_file(path, kind, columns, counter, sieve)
    return _not_empty(rows, str(path), sieve)


def read_hub(hub: HubDataset, columns: Columns, sieve: Sieve = _REFUSE) -> Iterator[Row]:
    """All documents of one split of a hub data set at its pinned commit, streamed."""
    with hub_stream(hub) as (stream, where):
        some = itertools.islice(stream, hub.max_documents)
        yield from _not_empty(read_records(some, columns, where, sieve), where, sieve)


@contextmanager
def hub_stream(hub: HubDataset) -> Iterator[tuple[Iterable[dict[str, Any]], str]]:
    """The records of one split of a hub data set at its pinned commit, and its name in words.

    What goes wrong while they are read inside the block is a `UserError`.
    """
    import datasets

    where = f"{hub.name}{f' ({hub.config})' if hub.config else ''} at {hub.revision}"
    try:
        yield (
            datasets.load_dataset(
                hub.name, hub.config, split=hub.split, revision=hub.revision, streaming=True
            ),
            where,
        )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"The data set {where} cannot be read ({reason}): check its name, config, split and the network."
        ) from error


def hub_records(hub: HubDataset, unit: str) -> Iterator[Read]:
    """The same records one by one, each with its place.

    Args:
        unit: what a record is in words, such as `trace`.
    """
    with hub_stream(hub) as (stream, where):
        for number, record in enumerate(itertools.islice(stream, hub.max_documents)):
            yield Place(where, unit=unit, number=number), record


def read_row_groups(
    file: pq.ParquetFile,
    groups: Iterable[int],
    columns: Columns,
    source: Place,
    sieve: Sieve,
    *,
    row: int,
    rows: int,
    position: int,
) -> Iterator[tuple[int, Row]]:
    """The documents of some row groups that follow one another, each with its row's number in the file.

    Whether ids are repeated is for whoever sees all row groups to tell.

    Args:
        row: number of the first row in the file.
        rows: how many rows are read, at most.
        position: number of the first row in the whole input.
    """
    chosen = text_columns(file.schema_arrow, columns, source)
    make = row_maker(chosen, columns)
    records = table_records(lambda names: row_groups(file, names, groups), source, _names(chosen), row)
    for number, (place, record) in enumerate(itertools.islice(records, rows), row):
        try:
            if isinstance(record, Broken):
                raise record
            made = make(record, place, position + number - row)
        except Broken as found:
            sieve.broken(found)
            continue
        yield number, made


def read_records(
    records: Iterable[dict[str, Any]], columns: Columns, where: str, sieve: Sieve = _REFUSE
) -> Iterator[Row]:
    """Rows of a stream of records that all have the same columns, such as a streamed data set."""
    placed = ((Place(where, unit="document", number=n), record) for n, record in enumerate(records))
    return _rows(placed, Place(where), columns, itertools.count(), sieve)


def _rows(
    records: Iterable[Read], source: Place, columns: Columns, counter: Iterator[int], sieve: Sieve
) -> Iterator[Row]:
    """Rows of records; the first that has a text column says which columns are read."""
    make: Callable[[dict[str, Any], Place, int], Row] | None = None
    for (place, record), position in zip(records, counter, strict=False):
        try:
            if isinstance(record, Broken):
                raise record
            if make is None:
                make = row_maker(choose_columns(list(record), columns, source), columns)
            row = make(record, place, position)
            if sieve.repeated(row.unit_id):
                raise Broken(place, "a repeated id", _REPEATED.format(row.unit_id), row.unit_id)
        except Broken as found:
            sieve.broken(found if found.place is place else found.of(place))
            continue
        yield row


def choose_columns(present: list[str], columns: Columns, where: Place) -> ChosenColumns:
    """The columns named in `columns`, or else those with a usual name. `Broken` lists what there is."""
    listed = ", ".join(present)

    def find(wanted: str | None, usual: tuple[str, ...], what: str) -> str | None:
        if wanted is None:
            return next((name for name in usual if name in present), None)
        if wanted not in present:
            raise Broken(
                where,
                f"no column for the {what}",
                f"has no column '{wanted}' for the {what}: its columns are {listed}.",
            )
        return wanted

    text = find(columns.text, TEXT_NAMES, "text")
    if text is None and {"blob_id", "length_bytes"} <= set(present):
        raise UserError(
            f"{where} holds no text but pointers (blob_id) into Software Heritage's archive: fetch the "
            f"files first and give them as a data set with a text column."
        )
    if text is None:
        raise Broken(
            where,
            "no column for the text",
            "has no text column: set input.text (of a corpus: corpus.columns.text) to one of its columns, "
            f"{listed}.",
        )
    return ChosenColumns(
        text, find(columns.id, ID_NAMES, "ids"), find(columns.domain, DOMAIN_NAMES, "domains")
    )


def row_maker(chosen: ChosenColumns, columns: Columns) -> Callable[[dict[str, Any], Place, int], Row]:
    """What makes a `Row` of a record, its place and its number; `Broken` for what cannot be one."""

    def make(record: dict[str, Any], where: Place, position: int) -> Row:
        unit_id, id_type = f"row-{position:08d}", "position"
        if chosen.id is not None:
            value = record.get(chosen.id)
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise Broken(
                    where,
                    "an id of another type",
                    f"has a {json_type(value)} in '{chosen.id}': give every document a string or whole "
                    "number.",
                )
            unit_id, id_type = str(value), type(value).__name__
        if chosen.text not in record:
            raise Broken(
                where,
                "no column for the text",
                f"has no '{chosen.text}': its columns are {', '.join(record)}.",
                unit_id,
            )
        text = record[chosen.text]
        if text is not None and not isinstance(text, str):
            raise Broken(
                where,
                "text of another type",
                f"has a {json_type(text)} in '{chosen.text}' where text is needed: convert it or set "
                "input.text to another column.",
                unit_id,
            )
        domain = record.get(chosen.domain) if chosen.domain is not None else None
        if domain is not None and (isinstance(domain, bool) or not isinstance(domain, str | int)):
            raise Broken(
                where,
                "a domain of another type",
                f"has a {json_type(domain)} in '{chosen.domain}' where a domain's name is needed.",
                unit_id,
            )
        row = Row(unit_id, columns.default_domain if domain is None else str(domain), text or "", id_type)
        try:
            "".join(row).encode()
        except UnicodeEncodeError as error:
            raise Broken(
                where,
                "half a character",
                f"holds half a character ({error.object[error.start]!r}): repair the text.",
                unit_id,
            ) from error
        return row

    return make


def _not_empty(rows: Iterator[Row], where: str, sieve: Sieve) -> Iterator[Row]:
    first = next(rows, None)
    if first is None and sieve.first is not None:
        raise UserError(
            f"{where} holds no document that can be read; the first of those broken: {sieve.first}"
        )
    if first is None:
        raise UserError(f"{where} holds no documents: give one that does.")
    yield first
    yield from rows


def _read_file(
    path: Path, kind: Format, columns: Columns, counter: Iterator[int], sieve: Sieve, member: str = ""
) -> Iterator[Row]:
    source = Place(str(path), member)
    if kind == "parquet":
        with open_parquet(path) as (schema, batches):
            yield from _rows(_of_parquet(schema, batches, source, columns), source, columns, counter, sieve)
    else:
        yield from _rows(json_lines(source, kind, "flat JSON object"), source, columns, counter, sieve)


def _read_saved(path: Path, columns: Columns, counter: Iterator[int], sieve: Sieve) -> Iterator[Row]:
    schema, batches = open_saved(path)
    source = Place(str(path))
    chosen = text_columns(schema, columns, source)
    return _rows(table_records(batches, source, _names(chosen)), source, columns, counter, sieve)


def _of_parquet(schema: pa.Schema, batches: Batches, source: Place, columns: Columns) -> Iterator[Read]:
    try:
        chosen = text_columns(schema, columns, source)
    except Broken as found:
        return all_broken(batches, source, found)
    return table_records(batches, source, _names(chosen))


def _names(chosen: ChosenColumns) -> list[str]:
    return list(dict.fromkeys(name for name in chosen if name is not None))


def text_columns(schema: pa.Schema, columns: Columns, source: Place) -> ChosenColumns:
    """What `choose_columns` finds in a table. `Broken` also for two columns of one name."""
    chosen = choose_columns(schema.names, columns, source)
    for name in chosen:
        if name is not None and schema.names.count(name) > 1:
            raise two_columns(source, name)
    kind = schema.field(chosen.text).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (is_text(kind) or pa.types.is_null(kind)):
        raise Broken(
            source,
            "text of another type",
            f"holds {kind} in the column '{chosen.text}', not text: set input.text to another column.",
        )
    return chosen
