"""The user's own data as a corpus."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from airlab.errors import UserError
from airlab.progress import track
from airlab.schema.machine import Machine
from airlab.schema.text import Columns, HubDataset
from airlab.store.files import Files
from airlab.store.stage import Stage, Workdir

if TYPE_CHECKING:
    from airlab.text.quarantine import Quarantine, Sieve
    from airlab.text.readers import Row


@dataclass(frozen=True)
class ImportCorpus(Stage):
    """``documents.parquet``, ``skipped.parquet``, ``manifest.json``; ids, domains and order are the input's.

    The first record that is broken ends it. Either `files` with their `format`, or `hub`. Build it with
    `of_path` or `of_hub`.
    """

    VERSION: ClassVar[int] = 1

    files: Files | None
    format: str | None
    """A `airlab.text.records.Format`; the name that told it is not part of the content's hash."""
    hub: HubDataset | None
    columns: Columns

    @classmethod
    def of_path(cls, path: Path, columns: Columns) -> Self:
        """For a file or folder. `UserError` if it is missing, empty or of an unknown type."""
        from airlab.text.records import format_of

        kind = format_of(path)
        return cls(Files.of(path), kind, None, columns)

    @classmethod
    def of_hub(cls, hub: HubDataset, columns: Columns) -> Self:
        """For a data set on the hub at a pinned commit."""
        return cls(None, None, hub, columns)

    def slug(self) -> str:
        """Such as `jsonl` or the data set's name."""
        return self.hub.name.split("/")[-1] if self.hub else (self.format or "").replace(" ", "-")

    def run(self, work: Workdir, machine: Machine) -> None:
        """Stream the input into the tables; any error leaves none of them."""
        self._import(work, None)

    def _import(self, work: Workdir, quarantine: "Quarantine | None") -> None:
        from airlab.text.documents import SCHEMA, SKIPPED_SCHEMA, TableWriter
        from airlab.text.importing import import_rows

        source = f"{self.hub.name}@{self.hub.revision}" if self.hub else f"sha256:{self._sha256()[:16]}"
        with ExitStack() as stack:
            documents = TableWriter(stack.enter_context(work.writing("documents.parquet")), SCHEMA)
            stack.enter_context(documents)
            skipped = TableWriter(stack.enter_context(work.writing("skipped.parquet")), SKIPPED_SCHEMA)
            stack.enter_context(skipped)

            def watch(rows: Iterator["Row"]) -> Iterator["Row"]:
                return track(rows, label="documents read", unit="documents")

            facts = import_rows(self._rows, documents, skipped, source, watch, quarantine)
        with work.writing("manifest.json") as path:
            path.write_text(json.dumps(facts, indent=1) + "\n")
        work.note(**facts)

    def _sha256(self) -> str:
        return self.files.sha256 if self.files else ""

    def _rows(self, sieve: "Sieve") -> Iterator["Row"]:
        from airlab.text.readers import read_hub, read_rows

        if self.hub is not None:
            return read_hub(self.hub, self.columns, sieve)
        if self.files is None or self.format is None:
            raise UserError("no input was given: name a file, a folder or a hub data set.")
        return read_rows(self.files.path, self.format, self.columns, sieve)  # type: ignore[arg-type]


@dataclass(frozen=True)
class ImportSoundCorpus(ImportCorpus):
    """The same, and ``quarantine.parquet``: broken records are listed there with the reason, and left out.

    in = documents + skipped + quarantined. Of several records with one id the first sound one is kept.
    """

    VERSION: ClassVar[int] = 1

    def run(self, work: Workdir, machine: Machine) -> None:
        """Stream the input into the tables, reading it twice: the ids alone first."""
        from airlab.text.quarantine import Quarantine

        with work.writing("quarantine.parquet") as path, Quarantine(path) as quarantine:
            self._import(work, quarantine)
