"""The user's own reasoning traces."""

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self, cast

from airlab.errors import UserError
from airlab.progress import track
from airlab.schema.machine import Machine
from airlab.schema.text import HubDataset
from airlab.schema.traces import TraceColumns
from airlab.store.files import Files
from airlab.store.stage import Stage, Workdir

if TYPE_CHECKING:
    from airlab.text.quarantine import Quarantine


@dataclass(frozen=True)
class ImportTraces(Stage):
    """``traces.parquet``, ``skipped.parquet``, ``manifest.json``; ids, domains and order are the input's.

    The first record that is broken ends it. Either `files` with their `format`, or `hub`. Build it with
    `of_path` or `of_hub`.
    """

    VERSION: ClassVar[int] = 1

    files: Files | None
    format: str | None
    """A `airlab.text.records.Format`; the name that told it is not part of the content's hash."""
    hub: HubDataset | None
    columns: TraceColumns

    @classmethod
    def of_path(cls, path: Path, columns: TraceColumns) -> Self:
        """For a file or folder. `UserError` if it is missing, empty or of an unknown type."""
        from airlab.text.records import format_of

        kind = format_of(path)
        return cls(Files.of(path), kind, None, columns)

    @classmethod
    def of_hub(cls, hub: HubDataset, columns: TraceColumns) -> Self:
        """For a data set on the hub at a pinned commit."""
        return cls(None, None, hub, columns)

    def slug(self) -> str:
        """Such as `jsonl` or the data set's name."""
        return self.hub.name.split("/")[-1] if self.hub else (self.format or "").replace(" ", "-")

    def run(self, work: Workdir, machine: Machine) -> None:
        """Stream the input into the tables; any error leaves none of them."""
        self._import(work, None)

    def _import(self, work: Workdir, quarantine: "Quarantine | None") -> None:
        from airlab.text.documents import SKIPPED_SCHEMA, TableWriter
        from airlab.text.readers import hub_records
        from airlab.text.records import Format
        from airlab.text.trace_readers import import_traces, read_trace_records
        from airlab.text.traces import SCHEMA

        if self.hub is not None:
            source, records = f"{self.hub.name}@{self.hub.revision}", hub_records(self.hub, "trace")
        elif self.files is not None and self.format is not None:
            source = f"sha256:{self.files.sha256[:16]}"
            records = read_trace_records(self.files.path, cast(Format, self.format), self.columns)
        else:
            raise UserError("no input was given: name a file, a folder or a hub data set.")
        with ExitStack() as stack:
            traces, skipped = (
                stack.enter_context(TableWriter(stack.enter_context(work.writing(name)), schema))
                for name, schema in (("traces.parquet", SCHEMA), ("skipped.parquet", SKIPPED_SCHEMA))
            )
            watched = track(records, label="traces read", unit="traces")
            facts = import_traces(watched, self.columns, source, traces, skipped, quarantine)
        with work.writing("manifest.json") as path:
            path.write_text(json.dumps(facts, indent=1) + "\n")
        work.note(**facts)


@dataclass(frozen=True)
class ImportSoundTraces(ImportTraces):
    """The same, and ``quarantine.parquet``: broken records are listed there with the reason, and left out.

    in = traces + skipped + quarantined. Of several records with one id the first sound one is kept.
    """

    VERSION: ClassVar[int] = 1

    def run(self, work: Workdir, machine: Machine) -> None:
        """Stream the input into the tables."""
        from airlab.text.quarantine import Quarantine

        with work.writing("quarantine.parquet") as path, Quarantine(path) as quarantine:
            self._import(work, quarantine)
