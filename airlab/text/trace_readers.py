"""The user's own traces: chats, prompt/response pairs and thinking traces, in every format of documents.

The response is the assistant's last turn without the white space around it, which some chat templates keep
and others drop. What comes before is context, earlier answers included: never scored, never trained on. Turns
after the last answer are left out and counted.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from airlab.errors import UserError
from airlab.schema.text import Columns
from airlab.schema.traces import Layout, TraceColumns
from airlab.text.documents import Skipped, TableWriter
from airlab.text.quarantine import Broken, Place, Quarantine, Refuse
from airlab.text.readers import DOMAIN_NAMES, ID_NAMES, ChosenColumns, row_maker
from airlab.text.records import (
    Batches,
    Format,
    Read,
    all_broken,
    json_lines,
    json_type,
    members_of,
    open_parquet,
    open_saved,
    suffix_format,
    table_records,
    two_columns,
)
from airlab.text.traces import Message, Role, Trace

MESSAGES_NAMES = ("messages", "conversations", "conversation")
SYSTEM_NAMES = ("system", "system_prompt")
PROMPT_NAMES = ("prompt", "question", "problem", "instruction", "query")
RESPONSE_NAMES = ("response", "completion", "output", "answer", "solution")
THINKING_NAMES = ("thinking_trajectories", "thinking_trajectory", "deepseek_thinking_trajectory", "thinking")
ATTEMPT_NAMES = ("attempt", "deepseek_attempt", "response", "answer")
ANSWER_NAMES = ("final_answer", "expected_answer", "ground_truth", "answer", "solution")
ORDER_NAMES = ("order", "rank")

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
"""What speakers are called in the formats there are, and what chat templates call them."""

NO_ANSWER = "no assistant turn"
EMPTY = "an empty response"

_SAID = "text"
"""Column in which all that a trace says goes through the checks that every text goes through."""

_LARGEST = (1 << 63) - 1
"""Rank that a table can hold."""

_NO_COLUMN = "no column for a trace"
_NO_TURNS = "messages that are no turns"
_UNIQUE = "make the ids unique or set input.id to another column."


class ChosenTraceColumns(NamedTuple):
    """The columns to read; None where the input has none or the layout needs none."""

    layout: Layout
    messages: str | None
    prompt: str | None
    thinking: str | None
    response: str | None
    system: str | None
    answer: str | None
    order: str | None
    id: str | None
    domain: str | None


class _Turns(NamedTuple):
    """A conversation, divided at its last answer."""

    before: tuple[Message, ...]
    response: str
    after: int
    """How many turns follow the answer."""


def read_trace_records(path: Path, kind: Format, columns: TraceColumns) -> Iterator[Read]:
    """The records of a file or folder of that format, at least the columns that `import_traces` asks for.

    Errors: `UserError` for a damaged file, or a saved data set whose columns hold no traces.
    """
    if kind == "folder":
        return itertools.chain.from_iterable(
            _file(Place(str(member), member.name), suffix_format(member.name) or "jsonl", columns)
            for member in members_of(path)
        )
    if kind == "saved data set":
        return _saved(path, columns)
    return _file(Place(str(path)), kind, columns)


def import_traces(
    records: Iterable[Read],
    columns: TraceColumns,
    source: str,
    traces: TableWriter,
    skipped: TableWriter,
    quarantine: Quarantine | None = None,
) -> dict[str, object]:
    """Writes every record to one of the tables and returns counts: in = traces + skipped (+ quarantined).

    Memory: the ids and one row group.

    Args:
        quarantine: where broken records go; None refuses the first of them.

    Raises:
        UserError: no records that are sound. Without a quarantine also two with one id, columns that are
            missing or hold something else, and, unless `columns.unusable` is `skip`, no answer.
    """
    sieve = quarantine or Refuse()
    ids: set[str] = set()
    domains: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    read: _Reader | None = None
    left_out = 0
    for position, (where, record) in enumerate(records):
        try:
            if isinstance(record, Broken):
                raise record
            read = read or _Reader(choose_trace_columns(list(record), columns, where), columns, source)
            unit, after = read(record, where, position)
            if unit.unit_id in ids:
                told = f"has the id '{unit.unit_id}' of a trace before it: {_UNIQUE}"
                raise Broken(where, "a repeated id", told, unit.unit_id)
        except Broken as broken:
            sieve.broken(broken if read is None else broken.of(where, read.id_of(record)))
            continue
        ids.add(unit.unit_id)
        if isinstance(unit, Skipped):
            skipped.add(unit)
            reasons[unit.reason] += 1
            continue
        traces.add(unit.row())
        domains[unit.domain] += 1
        left_out += after
    if not ids and sieve.first is not None:
        raise UserError(
            f"the input holds no trace that can be read; the first of those broken: {sieve.first}"
        )
    if not ids:
        raise UserError("the input holds no traces: give one that does.")
    counts: dict[str, object] = {
        "in": len(ids) + (quarantine.count if quarantine else 0),
        "traces": traces.count,
        "skipped": skipped.count,
        "skipped_by_reason": dict(sorted(reasons.items())),
        "traces_by_domain": dict(sorted(domains.items())),
        "turns_after_the_answer": left_out,
    }
    return counts if quarantine is None else {**counts, **quarantine.counts()}


class _Reader:
    """Makes traces of records, all by the columns that the first of them chose."""

    def __init__(self, chosen: ChosenTraceColumns, columns: TraceColumns, source: str) -> None:
        self._chosen, self._columns, self._source = chosen, columns, source
        self._make = row_maker(
            ChosenColumns(_SAID, chosen.id, chosen.domain), Columns(default_domain=columns.default_domain)
        )

    def __call__(self, record: dict[str, Any], where: Place, position: int) -> tuple[Trace | Skipped, int]:
        """A trace and how many turns follow its answer, or why it is skipped; `Broken` for neither."""
        turns = _turns(record, self._chosen, self._columns, where)
        if isinstance(turns, str) and self._columns.unusable == "refuse":
            raise Broken(
                where, turns, f"has {turns}: correct it, or set input.unusable=skip to leave such traces out."
            )
        answer = _answer(record, self._chosen, where)
        said = [] if isinstance(turns, str) else [*(m.content for m in turns.before), turns.response]
        row = self._make({**record, _SAID: "\n".join([*said, answer or ""])}, where, position)
        if isinstance(turns, str):
            return Skipped(row.unit_id, row.domain, turns), 0
        order = _order(record, self._chosen, where)
        return (
            Trace(row.unit_id, row.domain, turns.before, turns.response, self._source, "", answer, order),
            turns.after,
        )

    def id_of(self, record: dict[str, Any] | Broken) -> str | None:
        """The id of a record that is broken elsewhere, where it has one."""
        value = record.get(self._chosen.id) if isinstance(record, dict) and self._chosen.id else None
        return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def choose_trace_columns(present: list[str], columns: TraceColumns, where: Place) -> ChosenTraceColumns:
    """The columns named in `columns`, or else those with a usual name. `UserError` lists what there is."""
    listed = ", ".join(present)

    def find(wanted: str | None, usual: tuple[str, ...], taken: tuple[str | None, ...] = ()) -> str | None:
        if wanted is None:
            return next((name for name in usual if name in present and name not in taken), None)
        if wanted not in present:
            raise Broken(where, _NO_COLUMN, f"has no column '{wanted}': its columns are {listed}.")
        return wanted

    def layout() -> tuple[Layout, str | None, str | None, str | None, str | None] | None:
        messages = find(columns.messages, MESSAGES_NAMES)
        prompt = find(columns.prompt, PROMPT_NAMES)
        thinking = find(columns.thinking, THINKING_NAMES)
        attempt = find(columns.response, ATTEMPT_NAMES, (prompt,))
        response = find(columns.response, RESPONSE_NAMES, (prompt,))
        asked = columns.layout
        if prompt and thinking and attempt and asked in (None, "thinking") and not columns.messages:
            return "thinking", None, prompt, thinking, attempt
        if messages and asked in (None, "messages") and not (columns.prompt or columns.response):
            return "messages", messages, None, None, None
        if prompt and response and asked in (None, "pair") and not columns.thinking:
            return "pair", None, prompt, None, response
        return None

    found = layout()
    if found is None:
        wanted = f"the layout {columns.layout}" if columns.layout else "traces"
        raise Broken(
            where,
            _NO_COLUMN,
            f"has no columns for {wanted}: set input.messages, or input.prompt and input.response "
            f"(and input.thinking), to some of {listed}.",
        )
    system = find(columns.system, SYSTEM_NAMES)
    answer = find(columns.answer, ANSWER_NAMES, found[1:])
    order = find(columns.order, ORDER_NAMES)
    ids, domain = find(columns.id, ID_NAMES), find(columns.domain, DOMAIN_NAMES)
    return ChosenTraceColumns(*found, system, answer, order, ids, domain)


def _turns(
    record: Mapping[str, Any], chosen: ChosenTraceColumns, columns: TraceColumns, where: Place
) -> _Turns | str:
    """The conversation that a record holds, or what it lacks."""
    if chosen.messages is not None:
        turns = _messages(_value(record, chosen.messages, where), columns, where)
    else:
        prompt = _value(record, chosen.prompt, where)
        response = _value(record, chosen.response, where)
        asked = _messages(prompt, columns, where) if isinstance(prompt, list) else _asked(prompt, where)
        if isinstance(response, list):
            answered = _messages(response, columns, where)
        else:
            shown = _text(response, where)
            if chosen.thinking is not None:
                shown = _with_thinking(_value(record, chosen.thinking, where), shown, columns, where)
            answered = [Message("assistant", shown)]
        turns = [*asked, *answered]
    system = _text(record.get(chosen.system), where) if chosen.system is not None else ""
    if system.strip():
        turns = [Message("system", system), *turns]
    answers = [number for number, turn in enumerate(turns) if turn.role == "assistant"]
    if not answers:
        return NO_ANSWER
    last = turns[answers[-1]].content.strip()
    return _Turns(tuple(turns[: answers[-1]]), last, len(turns) - 1 - answers[-1]) if last else EMPTY


def _value(record: Mapping[str, Any], name: str | None, where: Place) -> Any:
    if name is None or name not in record:
        raise Broken(where, _NO_COLUMN, f"has no '{name}': its columns are {', '.join(record)}.")
    return record[name]


def _asked(prompt: Any, where: Place) -> list[Message]:
    text = _text(prompt, where)
    return [Message("user", text)] if text.strip() else []


def _with_thinking(thinking: Any, shown: str, columns: TraceColumns, where: Place) -> str:
    text = "\n".join(_text(part, where) for part in thinking) if isinstance(thinking, list) else thinking
    text = _text(text, where)
    return f"{columns.thinking_open}{text.strip()}{columns.thinking_close}{shown}" if text.strip() else shown


def _messages(value: Any, columns: TraceColumns, where: Place) -> list[Message]:
    """Turns in the spelling of chat templates, from either of the two usual ones."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            told = f"has messages that are no JSON list ({error}): write one."
            raise Broken(where, _NO_TURNS, told) from error
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise Broken(
            where,
            _NO_TURNS,
            "has messages that are no list of turns: each turn needs a role and a content (or from and "
            "value).",
        )
    return [_message(turn, columns, where) for turn in value]


def _message(turn: Mapping[str, Any], columns: TraceColumns, where: Place) -> Message:
    spoken, content = ("from", "value") if "from" in turn else ("role", "content")
    role = ROLES.get(str(turn.get(spoken)))
    if role is None:
        raise Broken(
            where,
            "an unknown speaker",
            f"has a turn of '{turn.get(spoken)}': the speakers that are known are {', '.join(ROLES)}.",
        )
    if turn.get("tool_calls"):
        told = "has a turn that calls tools, which cannot be shown as text: leave it out."
        raise Broken(where, "a turn that is no text", told)
    said = turn.get(content)
    if isinstance(said, list):  # parts, as multimodal models have them
        if not all(isinstance(part, dict) and part.get("type") == "text" for part in said):
            told = "has a turn with other parts than text: leave it out."
            raise Broken(where, "a turn that is no text", told)
        said = "".join(_text(part.get("text"), where) for part in said)
    text = _text(said, where)
    if role == "assistant":
        thinking = turn.get("reasoning_content") or turn.get("thinking") or turn.get("reasoning")
        text = _with_thinking(thinking, text, columns, where)
    return Message(role, text)


def _text(value: Any, where: Place) -> str:
    if value is not None and not isinstance(value, str):
        told = f"has a {json_type(value)} where text is needed: convert it or name other columns."
        raise Broken(where, "text of another type", told)
    return value or ""


def _answer(record: Mapping[str, Any], chosen: ChosenTraceColumns, where: Place) -> str | None:
    value = record.get(chosen.answer) if chosen.answer is not None else None
    if value is None or isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, RecursionError) as error:
        told = f"has a {json_type(value)} in '{chosen.answer}' that JSON cannot say: convert it to text."
        raise Broken(where, "an answer that is no text", told) from error


def _order(record: Mapping[str, Any], chosen: ChosenTraceColumns, where: Place) -> int | None:
    value = record.get(chosen.order) if chosen.order is not None else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST:
        told = f"has a {json_type(value)} in '{chosen.order}' where a rank is needed."
        raise Broken(where, "an order that is no rank", told)
    return value


def _file(source: Place, kind: Format, columns: TraceColumns) -> Iterator[Read]:
    if kind == "parquet":
        with open_parquet(Path(source.source)) as (schema, batches):
            yield from _of_parquet(schema, batches, columns, source)
    else:
        yield from json_lines(source, kind)


def _of_parquet(schema: pa.Schema, batches: Batches, columns: TraceColumns, source: Place) -> Iterator[Read]:
    try:
        names = _needed(schema.names, columns, source)
    except Broken as found:
        return all_broken(batches, source, found)
    return table_records(batches, source, names)


def _saved(path: Path, columns: TraceColumns) -> Iterator[Read]:
    schema, batches = open_saved(path)
    source = Place(str(path))
    return table_records(batches, source, _needed(schema.names, columns, source))


def _needed(present: list[str], columns: TraceColumns, where: Place) -> list[str]:
    _, *chosen = choose_trace_columns(present, columns, where)
    names = list(dict.fromkeys(name for name in chosen if name is not None))
    for name in names:
        if present.count(name) > 1:
            raise two_columns(where, name)
    return names
