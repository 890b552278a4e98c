"""Halves of documents, and what was measured of them by document."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from airlab.progress import track
from airlab.schema.machine import Machine
from airlab.store.stage import Stage, Workdir
from airlab.text.documents import SCHEMA, SKIPPED_SCHEMA, Skipped, TableWriter, read_documents
from airlab.text.halves import cut_in_half

Half = Literal["first", "second"]
HALVES: tuple[Half, ...] = ("first", "second")
_NOTHING = (0, 0.0)
"""Tokens and loss of a half that was not measured."""

HALVES_SCHEMA = pa.schema(
    [
        ("unit_id", pa.string()),
        ("n_tokens_first", pa.int64()),
        ("loss_sum_first", pa.float64()),
        ("n_tokens_second", pa.int64()),
        ("loss_sum_second", pa.float64()),
    ]
)


def half_id(document: str, half: Half) -> str:
    """The unit id of a document's half; ids of documents are unique, so these are."""
    return f"{document}/{half}"


@dataclass(frozen=True)
class HalveDocuments(Stage):
    """A corpus, `documents.parquet`, of every document's first and second half, in the documents' order.

    Each half stands by itself, as a unit with an id made by `half_id`. Documents of a single word cannot be
    cut: they are listed in `skipped.parquet`.
    """

    VERSION: ClassVar[int] = 1
    corpus: Stage

    def run(self, work: Workdir, machine: Machine) -> None:
        source = work.input(self.corpus) / "documents.parquet"
        documents = 0
        with ExitStack() as stack:
            units, skipped = (
                stack.enter_context(TableWriter(stack.enter_context(work.writing(name)), schema))
                for name, schema in (("documents.parquet", SCHEMA), ("skipped.parquet", SKIPPED_SCHEMA))
            )
            for document in track(read_documents(source), label="cutting in half", unit="documents"):
                documents += 1
                halves = cut_in_half(document.text)
                if halves is None:
                    skipped.add(Skipped(document.unit_id, document.domain, "a single word: no halves"))
                    continue
                for half, text in zip(HALVES, halves, strict=True):
                    units.add(document._replace(unit_id=half_id(document.unit_id, half), text=text))
        if units.count + 2 * skipped.count != 2 * documents:
            raise RuntimeError(f"{units.count} halves and {skipped.count} skipped documents: not the corpus")
        work.note(documents=documents, halved=units.count // 2, skipped=skipped.count)


@dataclass(frozen=True)
class PairHalves(Stage):
    """`halves.parquet`: the losses of every document's halves under the base model, in the corpus' order.

    A half with nothing to predict, or of a document that could not be cut, has no tokens and no loss.
    """

    VERSION: ClassVar[int] = 1
    corpus: Stage
    losses: Stage
    """A LossTable of `HalveDocuments(corpus)`."""

    def run(self, work: Workdir, machine: Machine) -> None:
        documents = work.input(self.corpus) / "documents.parquet"
        ids: list[str] = pq.read_table(documents, columns=["unit_id"])["unit_id"].to_pylist()
        table = pq.read_table(work.input(self.losses) / "losses.parquet")
        units, n_tokens, losses = (
            table[name].to_pylist() for name in ("unit_id", "n_tokens", "loss_sum_base")
        )
        measured = dict(zip(units, zip(n_tokens, losses, strict=True), strict=True))
        columns: dict[str, list[Any]] = {"unit_id": ids}
        for half in HALVES:
            found = [measured.pop(half_id(unit, half), _NOTHING) for unit in ids]
            columns[f"n_tokens_{half}"] = [n_tokens for n_tokens, _ in found]
            columns[f"loss_sum_{half}"] = [loss for _, loss in found]
        if measured:
            raise RuntimeError(f"{len(measured)} halves belong to no document of the corpus")
        with work.writing("halves.parquet") as path:
            pq.write_table(pa.table(columns, schema=HALVES_SCHEMA), path)
        work.note(documents=len(ids), without_second_half=columns["n_tokens_second"].count(0))
