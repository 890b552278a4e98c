"""The user's own traces: chats, prompt/response pairs and thinking traces, in every format of documents.

The response is the assistant's last turn without the white space around it, which some chat templates keep
and others drop. What comes before is context, earlier answers included: never scored, never trained on. Turns
after the last answer are left out and counted.
"""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from airlab.errors import UserError
from airlab.schema.text import Columns, HubDataset
from airlab.schema.traces import Layout, TraceColumns
from airlab.text.documents import Skipped, TableWriter
from airlab.text.readers import (
    DOMAIN_NAMES,
    ID_NAMES,
    Batches,
    ChosenColumns,
    Format,
    Row,
    hub_stream,
    json_lines,
    json_type,
    members_of,
    open_parquet,
    open_saved,
    row_maker,
    suffix_format,
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

Record = tuple[str, dict[str, Any]]
"""Where it stands, in words for the user, and its columns."""


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


def read_trace_records(path: Path, kind: Format, columns: TraceColumns) -> Iterator[Record]:
    """The records of a file or folder of that format, at least the columns that `import_traces` asks for.

    Errors: `UserError` for a damaged file, a line that is not JSON, an input without records, or columns
    that hold no traces.
    """
    if kind == "folder":
        records: Iterator[Record] = itertools.chain.from_iterable(
            _file(member, suffix_format(member.name) or "jsonl", columns) for member in members_of(path)
        )
    elif kind == "saved data set":
        records = _saved(path, columns)
    else:
        records = _file(path, kind, columns)
    return records


def read_hub_records(hub: HubDataset) -> Iterator[Record]:
    """The records of one split of a hub data set at its pinned commit, streamed."""
    with hub_stream(hub) as (stream, where):
        for number, record in enumerate(itertools.islice(stream, hub.max_documents)):
            yield f"trace {number} of {where}", record


def import_traces(
    records: Iterable[Record], columns: TraceColumns, source: str, traces: TableWriter, skipped: TableWriter
) -> dict[str, object]:
    """Writes every record to one of the two tables and returns counts: in = traces + skipped.

    Memory: the ids and one row group.

    Raises:
        UserError: no records, two with one id, columns that are missing or hold something else; and, unless
            `columns.unusable` is `skip`, a record without an answer.
    """
    ids: set[str] = set()
    domains: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    make: Callable[[dict[str, Any], str], Row] | None = None
    left_out = 0
    for where, record in records:
        if make is None:
            chosen = choose_trace_columns(list(record), columns, where)
            make = row_maker(
                ChosenColumns(_SAID, chosen.id, chosen.domain),
                Columns(default_domain=columns.default_domain),
                itertools.count(),
            )
        turns = _turns(record, chosen, columns, where)
        if isinstance(turns, str) and columns.unusable == "refuse":
            raise UserError(
                f"{where} has {turns}: correct it, or set input.unusable=skip to leave such traces out."
            )
        said = [] if isinstance(turns, str) else [*(m.content for m in turns.before), turns.response]
        row = make({**record, _SAID: "\n".join(said)}, where)
        if row.unit_id in ids:
            raise UserError(
                f"two traces have the id '{row.unit_id}': make the ids unique or set input.id to another "
                "column."
            )
        ids.add(row.unit_id)
        if isinstance(turns, str):
            skipped.add(Skipped(row.unit_id, row.domain, turns))
            reasons[turns] += 1
            continue
        trace = Trace(
            row.unit_id,
            row.domain,
            turns.before,
            turns.response,
            source=source,
            answer=_answer(record, chosen),
            order=_order(record, chosen, where),
        )
        traces.add(trace.row())
        domains[row.domain] += 1
        left_out += turns.after
    if not ids:
        raise UserError("the input holds no traces: give one that does.")
    return {
        "in": len(ids),
        "traces": traces.count,
        "skipped": skipped.count,
        "skipped_by_reason": dict(sorted(reasons.items())),
        "traces_by_domain": dict(sorted(domains.items())),
        "turns_after_the_answer": left_out,
    }


def choose_trace_columns(present: list[str], columns: TraceColumns, where: str) -> ChosenTraceColumns:
    """The columns named in `columns`, or else those with a usual name. `UserError` lists what there is."""
    listed = ", ".join(present)

    def find(wanted: str | None, usual: tuple[str, ...], taken: tuple[str | None, ...] = ()) -> str | None:
        if wanted is None:
            return next((name for name in usual if name in present and name not in taken), None)
        if wanted not in present:
            raise UserError(f"{where} has no column '{wanted}': its columns are {listed}.")
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
        raise UserError(
            f"{where} has no columns for {wanted}: set input.messages, or input.prompt and input.response "
            f"(and input.thinking), to some of {listed}."
        )
    system = find(columns.system, SYSTEM_NAMES)
    answer = find(columns.answer, ANSWER_NAMES, found[1:])
    order = find(columns.order, ORDER_NAMES)
    ids, domain = find(columns.id, ID_NAMES), find(columns.domain, DOMAIN_NAMES)
    return ChosenTraceColumns(*found, system, answer, order, ids, domain)


def _turns(
    record: Mapping[str, Any], chosen: ChosenTraceColumns, columns: TraceColumns, where: str
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


def _value(record: Mapping[str, Any], name: str | None, where: str) -> Any:
    if name is None or name not in record:
        raise UserError(f"{where} has no '{name}': its columns are {', '.join(record)}.")
    return record[name]


def _asked(prompt: Any, where: str) -> list[Message]:
    text = _text(prompt, where)
    return [Message("user", text)] if text.strip() else []


def _with_thinking(thinking: Any, shown: str, columns: TraceColumns, where: str) -> str:
    text = "\n".join(_text(part, where) for part in thinking) if isinstance(thinking, list) else thinking
    text = _text(text, where)
    return f"{columns.thinking_open}{text.strip()}{columns.thinking_close}{shown}" if text.strip() else shown


def _messages(value: Any, columns: TraceColumns, where: str) -> list[Message]:
    """Turns in the spelling of chat templates, from either of the two usual ones."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where} has messages that are no JSON list ({error}): write one.") from error
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise UserError(
            f"{where} has messages that are no list of turns: each turn needs a role and a content (or from "
            "and value)."
        )
    return [_message(turn, columns, where) for turn in value]


def _message(turn: Mapping[str, Any], columns: TraceColumns, where: str) -> Message:
    spoken, content = ("from", "value") if "from" in turn else ("role", "content")
    role = ROLES.get(str(turn.get(spoken)))
    if role is None:
        raise UserError(
            f"{where} has a turn of '{turn.get(spoken)}': the speakers that are known are {', '.join(ROLES)}."
        )
    if turn.get("tool_calls"):
        raise UserError(f"{where} has a turn that calls tools, which cannot be shown as text: leave it out.")
    said = turn.get(content)
    if isinstance(said, list):  # parts, as multimodal models have them
        if not all(isinstance(part, dict) and part.get("type") == "text" for part in said):
            raise UserError(f"{where} has a turn with other parts than text: leave it out.")
        said = "".join(_text(part.get("text"), where) for part in said)
    text = _text(said, where)
    if role == "assistant":
        thinking = turn.get("reasoning_content") or turn.get("thinking") or turn.get("reasoning")
        text = _with_thinking(thinking, text, columns, where)
    return Message(role, text)


def _text(value: Any, where: str) -> str:
    if value is not None and not isinstance(value, str):
        raise UserError(
            f"{where} has a {json_type(value)} where text is needed: convert it or name other columns."
        )
    return value or ""


def _answer(record: Mapping[str, Any], chosen: ChosenTraceColumns) -> str | None:
    value = record.get(chosen.answer) if chosen.answer is not None else None
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _order(record: Mapping[str, Any], chosen: ChosenTraceColumns, where: str) -> int | None:
    value = record.get(chosen.order) if chosen.order is not None else None
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise UserError(f"{where} has a {json_type(value)} in '{chosen.order}' where a rank is needed.")
    return value


def _file(path: Path, kind: Format, columns: TraceColumns) -> Iterator[Record]:
    if kind == "parquet":
        with open_parquet(path) as (schema, batches):
            yield from _rows(schema, batches, columns, str(path))
    else:
        yield from json_lines(path, kind)


def _saved(path: Path, columns: TraceColumns) -> Iterator[Record]:
    yield from _rows(*open_saved(path), columns, str(path))


def _rows(schema: pa.Schema, batches: Batches, columns: TraceColumns, where: str) -> Iterator[Record]:
    names = _needed(schema.names, columns, where)
    rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches(names))
    return ((f"row {number} of {where}", row) for number, row in enumerate(rows))


def _needed(present: list[str], columns: TraceColumns, where: str) -> list[str]:
    _, *names = choose_trace_columns(present, columns, where)
    return list(dict.fromkeys(name for name in names if name is not None))
