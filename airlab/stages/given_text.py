"""One text that the user wrote on the command line, as a corpus."""

from dataclasses import dataclass
from typing import ClassVar

from airlab.schema.machine import Machine
from airlab.store.stage import Stage, Workdir


@dataclass(frozen=True)
class GivenText(Stage):
    """`documents.parquet` of one document."""

    VERSION: ClassVar[int] = 1
    unit_id: str
    text: str

    def run(self, work: Workdir, machine: Machine) -> None:
        from airlab.text.documents import Document, write_documents

        with work.writing("documents.parquet") as path:
            write_documents(path, [Document(self.unit_id, "all", self.text)])
