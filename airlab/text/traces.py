"""The table of reasoning traces that later stages read, and traces out of the user's records."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from airlab.text.documents import TableWriter

Role = Literal["system", "user", "assistant", "tool"]


class Message(NamedTuple):
    """One turn of a conversation."""

    role: Role
    content: str


class Trace(NamedTuple):
    """What a model was asked and the one answer that it is to be scored or trained on."""

    unit_id: str
    domain: str
    messages: tuple[Message, ...]
    """Everything before the answer; empty for a response without a prompt."""
    response: str
    """The assistant's last turn, thinking included."""
    source: str = ""
    licence: str = ""
    answer: str | None = None
    """The final answer that a verifier compares with."""
    order: int | None = None
    """The rank, 1 the best, that the data's own curators gave."""
    step_kinds: tuple[str, ...] | None = None
    """Of generated traces: each known step's kind."""
    step_ends: tuple[int, ...] | None = None
    """Of generated traces: where each known step ends, in characters; the last is the response's length."""

    @property
    def prompt(self) -> str:
        """The user's side as plain text: the contents of all messages, blank lines between."""
        return "\n\n".join(message.content for message in self.messages)

    def row(self) -> Any:
        """The values of its columns, in the order of `SCHEMA`."""
        said = json.dumps([message._asdict() for message in self.messages], ensure_ascii=False)
        return (self.unit_id, self.domain, self.prompt, said, *self[3:])

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> Self:
        """A trace from a row of the table."""
        values: dict[str, Any] = {name: row[name] for name in cls._fields}
        values["messages"] = tuple(Message(**message) for message in json.loads(row["messages"]))
        for name in ("step_kinds", "step_ends"):
            values[name] = None if row[name] is None else tuple(row[name])
        return cls(**values)


SCHEMA = pa.schema(
    [
        ("unit_id", pa.string()),
        ("domain", pa.string()),
        ("prompt", pa.string()),
        ("messages", pa.string()),  # JSON list of role and content
        ("response", pa.string()),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("answer", pa.string()),
        ("order", pa.int64()),
        ("step_kinds", pa.list_(pa.string())),
        ("step_ends", pa.list_(pa.int64())),
    ]
)


def write_traces(path: Path, traces: Iterable[Trace]) -> int:
    """Writes traces.parquet, in row groups of 256 rows, and returns the number of rows."""
    with TableWriter(path, SCHEMA) as writer:
        for trace in traces:
            writer.add(trace.row())
    return writer.count


def read_traces(path: Path) -> Iterator[Trace]:
    """All traces in order, one row group in memory at a time."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield from traces_of_group(file, group)


def traces_of_group(file: pq.ParquetFile, group: int) -> list[Trace]:
    """The traces of one row group, in order."""
    return [Trace.of_row(row) for row in file.read_row_group(group).to_pylist()]
