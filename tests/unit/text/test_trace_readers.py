"""The user's own traces: every layout and format gives the same traces, every mistake one sentence."""

import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from pydantic import ValidationError

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.schema.text import HubDataset
from airlab.schema.traces import TraceColumns
from airlab.stages.import_traces import ImportTraces
from airlab.store.plan import Plan
from airlab.store.store import Store
from airlab.text.quarantine import Place
from airlab.text.trace_readers import choose_trace_columns
from airlab.text.traces import Message, Trace, read_traces, write_traces

ASKED = (Message("user", "What is 2 + 2?"),)
FORMATS = ["jsonl", "jsonl.gz", "jsonl.zst", "parquet", "saved data set", "folder"]


def chat(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


def write(folder: Path, records: list[dict[str, Any]], kind: str = "jsonl") -> Path:
    data = b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)
    path = folder / f"t.{kind}"
    if kind == "jsonl":
        path.write_bytes(data)
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(data))
    elif kind == "jsonl.zst":
        path.write_bytes(zstandard.compress(data))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif kind == "saved data set":
        datasets.Dataset.from_list(records).save_to_disk(str(path))
    else:
        path.mkdir()
        (path / "0.jsonl").write_bytes(data)
    return path


def run(folder: Path, stage: ImportTraces) -> Path:
    store = Store(folder / "store")
    Plan(store, [stage]).run(Machine())
    return store.folder(stage)


def imported(folder: Path, records: list[dict[str, Any]], kind: str = "jsonl", **columns: Any) -> list[Trace]:
    stage = ImportTraces.of_path(write(folder, records, kind), TraceColumns(**columns))
    return list(read_traces(run(folder, stage) / "traces.parquet"))


LAYOUTS: dict[str, dict[str, Any]] = {
    "chat": {"messages": chat(("user", "What is 2 + 2?"), ("assistant", "It is 4.\n"))},
    "sharegpt": {
        "conversations": [{"from": "human", "value": "What is 2 + 2?"}, {"from": "gpt", "value": "It is 4."}]
    },
    "pair": {"prompt": "What is 2 + 2?", "completion": "It is 4."},
    "question and answer": {"question": "What is 2 + 2?", "answer": "It is 4."},
    "pair of chats": {
        "prompt": chat(("user", "What is 2 + 2?")),
        "completion": chat(("assistant", "It is 4.")),
    },
    "chat as JSON": {"messages": json.dumps(chat(("user", "What is 2 + 2?"), ("assistant", "It is 4.")))},
    "thinking of nothing": {"question": "What is 2 + 2?", "thinking": "", "attempt": "It is 4."},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_trace(tmp_path: Path, layout: str) -> None:
    (trace,) = imported(tmp_path, [LAYOUTS[layout]])
    assert (trace.messages, trace.response) == (ASKED, "It is 4.")
    assert (trace.unit_id, trace.domain, trace.answer, trace.order) == ("row-00000000", "all", None, None)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("layout", ["chat", "sharegpt", "pair"])
def test_every_format_gives_the_same_traces_in_order(tmp_path: Path, kind: str, layout: str) -> None:
    records = [{"id": f"t{9 - n}", "domain": "ab"[n % 2], **LAYOUTS[layout]} for n in range(4)]
    found = imported(tmp_path, records, kind)
    assert [(t.unit_id, t.domain, t.messages, t.response) for t in found] == [
        (f"t{9 - n}", "ab"[n % 2], ASKED, "It is 4.") for n in range(4)
    ]


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "saved data set"])
def test_thinking_traces_are_joined_as_templates_of_thinking_models_have_them(
    tmp_path: Path, kind: str
) -> None:
    record = {
        "solution": "4",
        "question": "What is 2 + 2?",
        "thinking_trajectories": ["Two and two.\n", "So four."],
        "attempt": "It is 4.",
        "cot_type": "math",
    }
    (trace,) = imported(tmp_path, [record], kind)
    assert trace.response == "<think>\nTwo and two.\n\nSo four.\n</think>\n\nIt is 4."
    assert (trace.messages, trace.answer) == (ASKED, "4")


def test_thoughts_beside_a_turn_are_part_of_it_and_their_marks_are_the_users(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "4", "reasoning_content": "2+2"},
    ]
    (trace,) = imported(tmp_path, [{"messages": turns}], thinking_open="[", thinking_close="]")
    assert trace.response == "[2+2]4"


def test_the_last_answer_of_a_conversation_is_the_response_and_the_rest_its_context(tmp_path: Path) -> None:
    turns = [("system", "Be brief."), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    path = write(tmp_path, [{"messages": chat(*turns, ("user", "thanks"), ("user", "bye"))}])
    folder = run(tmp_path, ImportTraces.of_path(path, TraceColumns()))
    (trace,) = read_traces(folder / "traces.parquet")
    assert trace.messages == tuple(Message(role, said) for role, said in turns[:-1])  # type: ignore[arg-type]
    assert (trace.response, trace.prompt) == ("d", "Be brief.\n\na\n\nb\n\nc")
    assert json.loads((folder / "manifest.json").read_text())["turns_after_the_answer"] == 2


@pytest.mark.parametrize("layout", ["chat", "pair"])
def test_a_systems_word_in_a_column_of_its_own_comes_first(tmp_path: Path, layout: str) -> None:
    (one, other) = imported(
        tmp_path, [{"system": "Be brief.", **LAYOUTS[layout]}, {"system": None, **LAYOUTS[layout]}]
    )
    assert one.messages == (Message("system", "Be brief."), *ASKED)
    assert other.messages == ASKED


def test_named_columns_win_and_answers_and_ranks_are_kept(tmp_path: Path) -> None:
    record = {"prompt": "no", "q": "yes", "answer": 4, "response": "no", "r": "R.", "rank": 2, "key": 7}
    (trace,) = imported(tmp_path, [record], prompt="q", response="r", id="key")
    assert (trace.unit_id, trace.prompt, trace.response, trace.answer, trace.order) == (
        "7",
        "yes",
        "R.",
        "4",
        2,
    )


def test_the_table_is_the_one_that_generated_traces_have(tmp_path: Path) -> None:
    traces = [
        Trace("a", "d", ASKED, "r é", "s", "MIT", "3", 1, ("clean", "answer"), (1, 3)),
        *(Trace(f"b{n}", "d", (), "r") for n in range(300)),
    ]
    assert write_traces(tmp_path / "t.parquet", traces) == 301
    assert list(read_traces(tmp_path / "t.parquet")) == traces
    table = pq.ParquetFile(tmp_path / "t.parquet")
    assert [table.metadata.row_group(g).num_rows for g in range(2)] == [256, 45]
    assert table.schema_arrow.names == [
        "unit_id", "domain", "prompt", "messages", "response", "source", "licence", "answer", "order",
        "step_kinds", "step_ends",
    ]  # fmt: skip


UNUSABLE = [
    ([{"messages": chat(("user", "a"))}], "no assistant turn"),
    ([{"messages": []}], "no assistant turn"),
    ([{"messages": chat(("user", "a"), ("assistant", " \n"))}], "an empty response"),
    ([{"prompt": "a", "response": None}], "an empty response"),
]


@pytest.mark.parametrize(("records", "lacks"), UNUSABLE)
def test_a_trace_without_an_answer_is_refused_or_skipped_with_its_reason(
    tmp_path: Path, records: list[dict[str, Any]], lacks: str
) -> None:
    good = LAYOUTS["chat" if "messages" in records[0] else "pair"] | {"response": "It is 4."}
    path = write(tmp_path, [good, *records])
    with pytest.raises(UserError, match=rf": line 2 of \S+ has {lacks}: .* input.unusable=skip") as told:
        run(tmp_path, ImportTraces.of_path(path, TraceColumns()))
    assert "\n" not in str(told.value)
    assert not [p for p in (tmp_path / "store").rglob("*.parquet") if p.is_file()], "half-written"
    folder = run(tmp_path, ImportTraces.of_path(path, TraceColumns(unusable="skip")))
    assert [t.response for t in read_traces(folder / "traces.parquet")] == ["It is 4."]
    assert pq.read_table(folder / "skipped.parquet").to_pylist() == [
        {"unit_id": "row-00000001", "domain": "all", "reason": lacks}
    ]
    facts = json.loads((folder / "manifest.json").read_text())
    assert (facts["in"], facts["traces"], facts["skipped"]) == (2, 1, 1)
    assert facts["skipped_by_reason"] == {lacks: 1}


BAD: list[tuple[list[Any], str]] = [
    ([{"text": "a"}], "no columns for traces: set input.messages"),
    ([{"messages": "[{"}], "messages that are no JSON list"),
    ([{"messages": {"role": "user"}}], "no list of turns"),
    ([{"messages": ["hello"]}], "no list of turns"),
    ([{"messages": chat(("wizard", "a"))}], "a turn of 'wizard': the speakers that are known"),
    ([{"messages": [{"content": "a"}]}], "a turn of 'None'"),
    ([{"messages": [{"role": "user", "content": 3}]}], "has a number where text is needed"),
    ([{"messages": [{"role": "user", "content": [{"type": "image"}]}]}], "other parts than text"),
    ([{"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]}], "calls tools"),
    ([{"prompt": "a", "response": ["b"]}], "no list of turns"),
    ([{"prompt": "a", "response": "b"}, {"prompt": "a"}], r"line 2 of \S+ has no 'response'"),
    ([{"id": "a", **LAYOUTS["pair"]}] * 2, "has the id 'a' of a trace before it"),
    ([{"id": 1.5, **LAYOUTS["pair"]}], "a number in 'id'"),
    ([{"domain": [], **LAYOUTS["pair"]}], "a list in 'domain'"),
    ([{"rank": "best", **LAYOUTS["pair"]}], "'rank' where a rank is needed"),
    ([{"prompt": "\ud800", "response": "b"}], "half a character"),
    ([[1]], "is a JSON list"),
    (["[" * 100_000], "JSON str|nested too deeply"),
]


@pytest.mark.parametrize(("records", "told"), BAD)
def test_every_mistake_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, records: list[Any], told: str
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(UserError, match=told) as error:
        run(tmp_path, ImportTraces.of_path(path, TraceColumns()))
    assert "\n" not in str(error.value)
    assert not [p for p in (tmp_path / "store").rglob("*.parquet") if p.is_file()]


@pytest.mark.parametrize("content", [b"{]\n", b"\n\n", b"\xff\n"])
def test_what_is_no_json_and_what_is_nothing_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=r"is not JSON|holds no traces"):
        run(tmp_path, ImportTraces.of_path(tmp_path / "t.jsonl", TraceColumns()))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 nothing")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "state.json").write_text("{}")
    for path, told in [(tmp_path / "t.parquet", "Parquet"), (tmp_path / "saved", "saved data set")]:
        with pytest.raises(UserError, match=f"not a readable {told}"):
            run(tmp_path, ImportTraces.of_path(path, TraceColumns()))


@pytest.mark.parametrize(
    ("present", "columns", "layout"),
    [
        (["problem", "solution", "messages"], {}, "messages"),
        (["question", "thinking", "attempt", "messages"], {}, "thinking"),
        (["question", "thinking", "attempt"], {"layout": "pair", "response": "attempt"}, "pair"),
        (["problem", "solution", "messages"], {"prompt": "problem"}, "pair"),
        (["question", "thinking", "attempt", "messages"], {"layout": "messages"}, "messages"),
        (["q", "think", "a"], {"prompt": "q", "thinking": "think", "response": "a"}, "thinking"),
    ],
)
def test_which_columns_are_there_tells_the_layout(
    present: list[str], columns: dict[str, Any], layout: str
) -> None:
    assert choose_trace_columns(present, TraceColumns(**columns), Place("here")).layout == layout


def test_columns_of_two_layouts_and_columns_that_are_missing_are_refused() -> None:
    for wrong in ({"messages": "m", "prompt": "p"}, {"layout": "pair", "thinking": "t"}):
        with pytest.raises(ValidationError):
            TraceColumns(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no column 'p': its columns are a, b"):
        choose_trace_columns(["a", "b"], TraceColumns(prompt="p"), Place("here"))
    with pytest.raises(UserError, match="no columns for the layout thinking"):
        choose_trace_columns(["prompt", "response"], TraceColumns(layout="thinking"), Place("here"))


def test_a_hub_data_set_is_streamed_at_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def load(*names: Any, **settings: Any) -> list[dict[str, Any]]:
        asked.append((*names, settings["revision"], settings["streaming"]))
        return [LAYOUTS["pair"]] * 3

    monkeypatch.setattr(datasets, "load_dataset", load)
    stage = ImportTraces.of_hub(
        HubDataset(name="owner/s1K", revision="a" * 40, max_documents=2), TraceColumns()
    )
    found = list(read_traces(run(tmp_path, stage) / "traces.parquet"))
    assert asked == [("owner/s1K", None, "a" * 40, True)]
    assert [(t.unit_id, t.source) for t in found] == [
        (f"row-0000000{n}", f"owner/s1K@{'a' * 40}") for n in range(2)
    ]
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: (_ for _ in ()).throw(OSError("no\nnet")))
    with pytest.raises(UserError, match=r"cannot be read \(no\): check its name"):
        run(tmp_path / "other", stage)
