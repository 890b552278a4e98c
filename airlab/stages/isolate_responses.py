"""The responses of traces, each on its own."""

from dataclasses import dataclass
from typing import ClassVar

from airlab.progress import track
from airlab.schema.machine import Machine
from airlab.store.stage import Stage, Workdir
from airlab.text.documents import SCHEMA, Document, TableWriter
from airlab.text.traces import read_traces


@dataclass(frozen=True)
class IsolateResponses(Stage):
    """A corpus, `documents.parquet`, of the traces' responses without their prompts: their ids, their order.

    What measures documents then measures responses: statistics of texts, or the loss without the prompt.
    """

    VERSION: ClassVar[int] = 1
    traces: Stage

    def run(self, work: Workdir, machine: Machine) -> None:
        traces = read_traces(work.input(self.traces) / "traces.parquet")
        with work.writing("documents.parquet") as path, TableWriter(path, SCHEMA) as writer:
            for trace in track(traces, label="isolating responses", unit="traces"):
                writer.add(Document(trace.unit_id, trace.domain, trace.response, trace.source, trace.licence))
        work.note(responses=writer.count)
