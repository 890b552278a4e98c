"""Traces written by a teacher: what is drawn, what is kept, and what an interruption changes."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from airlab.errors import UserError
from airlab.evaluation import teacher
from airlab.models.generate import Written
from airlab.schema.machine import Machine
from airlab.schema.traces import Rendering
from airlab.schema.writing import Writing
from airlab.stages.write_traces import WriteTraces
from airlab.store.files import Files
from airlab.store.plan import Plan
from airlab.store.store import Store
from airlab.text.traces import Trace, read_traces
from tests.unit.evaluation.made_worked import MadeProblems, chat_folder, corpus

PROMPTS = corpus()["heldout"]
SAMPLED = Writing(temperature=1.0, samples=3, max_new_tokens=12, keep="all")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_folder(tmp_path_factory.mktemp("teacher"))


def stage(model: Path, writing: Writing) -> WriteTraces:
    return WriteTraces(Files.of(model), MadeProblems(), Rendering(), writing)


def written(
    made: WriteTraces, root: Path, machine: Machine | None = None
) -> tuple[list[Trace], dict[str, str]]:
    """The traces, and why the others are skipped."""
    store = Store(root)
    Plan(store, [made]).run(machine or Machine())
    folder = store.folder(made)
    skipped = {row["unit_id"]: row["reason"] for row in pq.read_table(folder / "skipped.parquet").to_pylist()}
    traces = list(read_traces(folder / "traces.parquet"))
    told = json.loads((folder / "manifest.json").read_text())
    assert told["in"] == len(PROMPTS) * made.writing.samples == len(traces) + len(skipped)
    assert (told["traces"], told["skipped"]) == (len(traces), len(skipped))
    assert told["skipped_by_reason"] == Counter(skipped.values())
    assert not (folder / "shards").exists()
    return traces, skipped


def enough(model: Path, root: Path, **changes: Any) -> tuple[list[Trace], dict[str, str]]:
    """Answers of which some end: a random model ends seldom, so it is given many tries."""
    return written(stage(model, SAMPLED.model_copy(update={"samples": 16, **changes})), root)


def test_answers_stand_where_the_datas_own_stood(model: Path, tmp_path: Path) -> None:
    traces, skipped = enough(model, tmp_path)
    assert traces and set(skipped.values()) >= {"cut off at 12 tokens"}
    of = {trace.unit_id: trace for trace in PROMPTS}
    for trace in traces:
        name, _, number = trace.unit_id.partition("~")
        assert trace.messages == of[name].messages and trace.answer == of[name].answer
        assert trace.domain == of[name].domain and 0 <= int(number) < 16
        assert trace.response == trace.response.strip() != "" and trace.source.startswith("weights sha256:")
        assert (trace.order, trace.step_kinds, trace.step_ends) == (None, None, None)
    assert len({(trace.prompt, trace.response) for trace in traces}) == len(traces)
    assert [name for name in of for t in traces if t.unit_id.startswith(f"{name}~")] == [
        trace.unit_id.partition("~")[0] for trace in traces
    ]


def test_what_is_drawn_depends_on_the_seed_and_not_on_the_batch(model: Path, tmp_path: Path) -> None:
    one = enough(model, tmp_path / "one")
    for number, tokens in enumerate((1, 300)):
        machine = Machine(tokens_per_batch=tokens)
        again = written(
            stage(model, SAMPLED.model_copy(update={"samples": 16})), tmp_path / f"batch-{number}", machine
        )
        assert again == one
    assert enough(model, tmp_path / "seed", seed=1) != one


def test_the_order_and_the_company_of_prompts_do_not_matter(model: Path) -> None:
    asked = teacher.Teacher(model, Rendering(), SAMPLED.model_copy(update={"samples": 16}), Machine())
    kept, _ = asked.answers(PROMPTS, lambda _: None)
    backwards, _ = asked.answers(PROMPTS[::-1], lambda _: None)
    alone = [trace for prompt in PROMPTS for trace in asked.answers([prompt], lambda _: None)[0]]
    assert sorted(backwards) == sorted(kept) == sorted(alone) and kept


SAID = {0: "so\nAnswer: {}", 1: "so\nAnswer: {}1", 2: "", 3: "so\nAnswer: {}"}
"""What is played, by the number of the problem: right, wrong, nothing, right but cut off."""


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, model: Path) -> list[dict[str, Any]]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    seen: list[dict[str, Any]] = []

    def generate(_: Any, prompts: list[list[int]], **how: Any) -> list[Written]:
        seen.append(how)
        answers = []
        for prompt in prompts:
            (trace,) = [t for t in PROMPTS if f"\n{t.prompt}<" in tokenizer.decode(prompt)]
            number = int(trace.unit_id.rpartition("-")[2]) % 4
            text = SAID[number].format(trace.answer)
            answers.append(Written(tokenizer.encode(text, add_special_tokens=False), number != 3))
        return answers

    monkeypatch.setattr(teacher, "generate", generate)
    return seen


@pytest.mark.parametrize("keep", ["right", "all"])
def test_only_finished_answers_are_kept_and_on_demand_only_right_ones(
    keep: Any, model: Path, tmp_path: Path, played: list[dict[str, Any]]
) -> None:
    traces, skipped = written(stage(model, Writing(max_new_tokens=20, keep=keep)), tmp_path)

    def number(unit_id: str) -> int:
        return int(unit_id.rpartition("-")[2]) % 4

    assert {number(trace.unit_id) for trace in traces} == ({0} if keep == "right" else {0, 1})
    expected = {
        2: "an empty answer",
        3: "cut off at 20 tokens",
        **({1: "a wrong answer"} if keep == "right" else {}),
    }
    assert {number(unit_id): reason for unit_id, reason in skipped.items()} == expected
    assert [how["choose"] for how in played] == [None]


def test_an_answer_said_twice_is_kept_once(model: Path, tmp_path: Path, played: list[dict[str, Any]]) -> None:
    traces, skipped = written(stage(model, Writing(temperature=1.0, samples=3, max_new_tokens=20)), tmp_path)
    assert Counter(skipped.values())["the same answer once more"] == 2 * len(traces) > 0


def test_prompts_that_cannot_be_asked_are_listed(model: Path) -> None:
    asked = teacher.Teacher(model, Rendering(), Writing(max_new_tokens=200), Machine())
    first = PROMPTS[0]
    long = first._replace(messages=(first.messages[0]._replace(content="so " * 90),))
    spelt = first._replace(messages=(first.messages[0]._replace(content="<|im_end|>"),))
    kept, skipped = asked.answers([first._replace(answer=None), long, spelt], lambda _: None)
    assert kept == [] and [row.reason for row in skipped] == [
        "no answer to compare with", "longer than 256 tokens with an answer", "spells a special token",
    ]  # fmt: skip


def test_a_teacher_without_a_single_answer_to_keep_is_refused(model: Path, tmp_path: Path) -> None:
    made = stage(model, Writing(max_new_tokens=1))
    with pytest.raises(UserError, match=r"none of the teacher's answers is kept \(cut off at 1 tokens\)"):
        written(made, tmp_path)
    assert Store(tmp_path).find(made) is None


def test_finished_shards_are_not_written_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, played: list[dict[str, Any]]
) -> None:
    problems = MadeProblems(copies=25)  # 300 of them: two shards
    made = WriteTraces(Files.of(model), problems, Rendering(), Writing(max_new_tokens=20))
    generate = teacher.generate

    def dies_in_the_second(*args: Any, **how: Any) -> Any:
        if played:
            raise KeyboardInterrupt
        return generate(*args, **how)

    def folder(name: str) -> Path:
        store = Store(tmp_path / name)
        Plan(store, [made]).run(Machine())
        return store.folder(made)

    monkeypatch.setattr(teacher, "generate", dies_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        folder("stopped")
    assert len(played) == 1
    monkeypatch.setattr(teacher, "generate", generate)
    stopped = folder("stopped")
    assert len(played) == 2
    undisturbed = folder("undisturbed")
    assert len(played) == 4
    for name in ("traces.parquet", "skipped.parquet", "manifest.json"):
        assert (stopped / name).read_bytes() == (undisturbed / name).read_bytes()
    assert pq.read_metadata(stopped / "traces.parquet").num_rows == 25 * 4


@pytest.mark.parametrize("wrong", [{"samples": 2}, {"top_p": 0.9}])
def test_greedy_answers_cannot_differ(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="need a temperature"):
        Writing(**wrong)
