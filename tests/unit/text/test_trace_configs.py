"""The public data sets of traces that configurations name: pinned, and read by the columns they have."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from airlab.schema.traces import HubTraces, TraceSource
from airlab.text.documents import SKIPPED_SCHEMA, TableWriter
from airlab.text.quarantine import Place
from airlab.text.trace_readers import import_traces
from airlab.text.traces import SCHEMA, Message, read_traces

CONFIGS = Path(__file__).parents[3] / "configs" / "traces"
HUB = {
    "s1k": "simplescaling/s1K",
    "s1k-1.1": "simplescaling/s1K-1.1",
    "s1-59k": "simplescaling/data_ablation_full59K",
}
GEMINI = {"thinking_trajectories": ["Half of 12.\n", "So 6."], "attempt": "It is 6."}
COMMON = {
    "question": "Half of 12?",
    "solution": "6",
    "cot_type": "math",
    "source_type": "a",
    "metadata": "{}",
}
RECORDS: dict[str, dict[str, Any]] = {
    "s1k": {**COMMON, **GEMINI},
    "s1k-1.1": {
        **COMMON,
        "gemini_thinking_trajectory": "no",
        "gemini_attempt": "no",
        "deepseek_thinking_trajectory": "Half of 12.\n\nSo 6.",
        "deepseek_attempt": "It is 6.",
    },
    "s1-59k": {**COMMON, **GEMINI},
}
"""A record of each data set, with the columns that its card lists."""


def source(name: str) -> HubTraces:
    said = json.dumps(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()))
    found: HubTraces = TypeAdapter(TraceSource).validate_json(said)
    return found


@pytest.mark.parametrize("name", HUB)
def test_a_record_becomes_the_trace_that_it_holds(tmp_path: Path, name: str) -> None:
    given = source(name)
    assert given.hub.name == HUB[name] and given.hub.split == "train"
    with (
        TableWriter(tmp_path / "traces.parquet", SCHEMA) as traces,
        TableWriter(tmp_path / "skipped.parquet", SKIPPED_SCHEMA) as skipped,
    ):
        import_traces([(Place("a record"), RECORDS[name])], given.columns, name, traces, skipped)
    (trace,) = read_traces(tmp_path / "traces.parquet")
    assert trace.messages == (Message("user", "Half of 12?"),)
    assert trace.response == "<think>\nHalf of 12.\n\nSo 6.\n</think>\n\nIt is 6."
    assert (trace.answer, trace.domain, trace.order) == ("6", "math", None)


def test_only_the_pool_that_nobody_cleaned_may_lack_answers(tmp_path: Path) -> None:
    assert {name: source(name).columns.unusable for name in HUB} == {
        "s1k": "refuse", "s1k-1.1": "refuse", "s1-59k": "skip",
    }  # fmt: skip
    record = {**RECORDS["s1-59k"], "thinking_trajectories": None, "attempt": None}
    with (
        TableWriter(tmp_path / "traces.parquet", SCHEMA) as traces,
        TableWriter(tmp_path / "skipped.parquet", SKIPPED_SCHEMA) as skipped,
    ):
        facts = import_traces([(Place("a record"), record)], source("s1-59k").columns, "", traces, skipped)
    assert facts["skipped_by_reason"] == {"an empty response": 1}
