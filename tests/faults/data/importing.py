"""The user's data through the import stages' own functions, and what became of every record."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from airlab.schema.text import Columns
from airlab.schema.traces import TraceColumns
from airlab.text import traces as trace_table
from airlab.text.documents import SCHEMA, SKIPPED_SCHEMA, TableWriter, read_documents
from airlab.text.importing import import_rows
from airlab.text.quarantine import Quarantine
from airlab.text.readers import read_rows
from airlab.text.records import format_of
from airlab.text.trace_readers import import_traces, read_trace_records
from airlab.text.traces import read_traces


class Outcome(NamedTuple):
    """What became of an input's records, in order."""

    counts: dict[str, Any]
    kept: list[Any]
    skipped: list[dict[str, Any]]
    quarantined: list[dict[str, Any]]

    def check(self, records: int | None = None) -> None:
        """in = kept + skipped + quarantined, by the counts and by the tables; each with a reason."""
        by_table = len(self.kept) + len(self.skipped) + len(self.quarantined)
        assert self.counts["in"] == by_table
        assert self.counts["quarantined"] == len(self.quarantined)
        assert self.counts["quarantined_by_reason"] == _counted(self.quarantined)
        if records is not None:
            assert by_table == records
        for row in self.quarantined:
            assert row["reason"] and row["detail"] and "\n" not in row["reason"]
        json.dumps(self.counts, allow_nan=False)


def documents_of(path: Path, scratch: Path, columns: Columns | None = None) -> Outcome:
    """Documents with a quarantine for those that are broken."""
    with ExitStack() as stack:
        writers = [
            stack.enter_context(TableWriter(scratch / f"{name}.parquet", schema))
            for name, schema in (("documents", SCHEMA), ("skipped", SKIPPED_SCHEMA))
        ]
        quarantine = stack.enter_context(Quarantine(scratch / "quarantine.parquet"))
        kind, chosen = format_of(path), columns or Columns()
        counts = import_rows(
            lambda sieve: read_rows(path, kind, chosen, sieve), *writers, "source", quarantine=quarantine
        )
    kept = list(read_documents(scratch / "documents.parquet"))
    return Outcome(counts, kept, _rows(scratch, "skipped"), _rows(scratch, "quarantine"))


def traces_of(path: Path, scratch: Path, columns: TraceColumns | None = None) -> Outcome:
    """Traces with a quarantine for those that are broken."""
    chosen = columns or TraceColumns()
    with ExitStack() as stack:
        writers = [
            stack.enter_context(TableWriter(scratch / f"{name}.parquet", schema))
            for name, schema in (("traces", trace_table.SCHEMA), ("skipped", SKIPPED_SCHEMA))
        ]
        quarantine = stack.enter_context(Quarantine(scratch / "quarantine.parquet"))
        records = read_trace_records(path, format_of(path), chosen)
        counts = import_traces(records, chosen, "source", *writers, quarantine)
    kept = list(read_traces(scratch / "traces.parquet"))
    return Outcome(counts, kept, _rows(scratch, "skipped"), _rows(scratch, "quarantine"))


def _rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


def _counted(rows: list[dict[str, Any]]) -> dict[str, int]:
    reasons = [row["reason"] for row in rows]
    return {reason: reasons.count(reason) for reason in sorted(set(reasons))}
