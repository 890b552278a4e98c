"""lm-eval over worked problems: what a model reads, what counts as solved, and what is refused."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from airlab.errors import UserError
from airlab.evaluation.client import evaluate
from airlab.evaluation.records import Record, read_records
from airlab.models.generate import Written
from airlab.schema.machine import Machine
from airlab.schema.traces import Rendering, Segmentation
from airlab.stages.build_worked_tasks import BuildWorkedTasks
from airlab.stages.evaluate import Evaluate
from airlab.store.files import Files
from airlab.store.plan import Plan
from airlab.store.store import Store
from airlab.text.trace_tokens import encode_traces
from airlab.text.traces import Trace
from airlab.training.trace_data import closing_tokens
from tests.unit.evaluation.made_worked import (
    CONTEXT,
    MadeProblems,
    chat_folder,
    corpus,
    generators,
    spec,
    tasks_folder,
)
from tests.unit.text.made_chat import CHATML, DATED, THINKING

PLAIN = Rendering(template="plain", separator="\n\n")
TRACES: dict[str, Trace] = {trace.prompt: trace for some in corpus().values() for trace in some}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_folder(tmp_path_factory.mktemp("chat"))


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tasks_folder(tmp_path_factory.mktemp("worked") / "tasks", spec())


def records_of(checkpoint: Path, tasks: Path, output: Path, batch_size: int = 4) -> list[Record]:
    evaluate(checkpoint, tasks, output, batch_size=batch_size, device="cpu", seed=3)
    return read_records(output)


@pytest.fixture(scope="module")
def records(checkpoint: Path, tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    return records_of(checkpoint, tasks, tmp_path_factory.mktemp("records") / "records.parquet")


def asked_of(tasks: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tasks / f"{name}.jsonl").read_text().splitlines()]


def encoded(tokenizer: Any, trace: Trace, rendering: Rendering) -> Any:
    (tokens,) = encode_traces(tokenizer, [trace], rendering, Segmentation(rule="whole"))
    return tokens


def test_every_item_has_the_metrics_that_were_planned(records: list[Record]) -> None:
    for planned in spec().planned():
        count = 4 if planned.name.startswith("solved") else 5
        for metric in planned.metrics:
            found = [r for r in records if (r.task, r.metric) == (planned.name, metric)]
            assert len({r.item_hash for r in found}) == len(found) == count
            assert {r.cluster for r in found} <= set(generators().values()) and {r.seed for r in found} == {3}
    assert {(r.metric, r.higher_is_better) for r in records} == {
        ("exact_match", True), ("truncated", False), ("answer_nats", False),
    }  # fmt: skip


def test_likelihoods_are_those_of_the_trace_in_float64(
    records: list[Record], checkpoint: Path, tasks: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float64)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    values = set()
    for column in ("school", "formulas", "harder", "unseen"):
        for asked in ("worked", "final"):
            found = [r.value for r in records if r.task == f"{asked}_{column}"]
            for row, value in zip(asked_of(tasks, f"{asked}_{column}"), found, strict=True):
                trace = encoded(tokenizer, TRACES[row["prompt"]], Rendering())
                ids = torch.tensor([trace.ids.tolist()])
                with torch.no_grad():
                    logits = model(ids).logits
                log_p = logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
                # The final answer is the last digits; each is a token of its own, and so is the space.
                last = len(tokenizer.encode(row["text"])) if asked == "final" else trace.steps[0].n_tokens
                expected = -float(log_p[-last:].sum()) / len(row["text"].encode())
                assert value == pytest.approx(expected, rel=1e-4)
                values.add(round(value, 6))
    assert len(values) > 20  # the comparison could have failed


class Played:
    """Writes what it is told to, and remembers what it was asked."""

    def __init__(self, tokenizer: Any, rendering: Rendering) -> None:
        self.tokenizer, self.rendering = tokenizer, rendering
        self.asked: list[list[int]] = []
        self.ends: frozenset[int] = frozenset()
        self.said: dict[str, tuple[str, bool]] = {}

    def __call__(self, model: Any, prompts: Sequence[Sequence[int]], **how: Any) -> list[Written]:
        self.asked += [list(prompt) for prompt in prompts]
        self.ends = how["ends"]
        of = {tuple(self.prompt_ids(trace)): trace for trace in TRACES.values()}
        answers = []
        for prompt in prompts:
            text, ended = self.said.get(of[tuple(prompt)].prompt, ("?", True))
            answers.append(Written(self.tokenizer.encode(text, add_special_tokens=False), ended))
        return answers

    def prompt_ids(self, trace: Trace) -> list[int]:
        tokens = encoded(self.tokenizer, trace, self.rendering)
        ids: list[int] = tokens.ids[: tokens.steps[0].first_token].tolist()
        return ids


def evaluated(checkpoint: Path, tasks: Path, played: Played, monkeypatch: pytest.MonkeyPatch) -> list[Record]:
    """In this process, so that what writes can be played."""
    harness = pytest.importorskip("airlab.evaluation.harness")
    from airlab.evaluation import solver

    monkeypatch.setattr(solver, "generate", played)
    found: list[Record] = harness.evaluate_local(
        checkpoint, tasks, batch_size=4, device="cpu", seed=0, mask=None
    )
    return found


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize(
    ("template", "start", "rendering"),
    [
        (CHATML, False, Rendering()),
        (CHATML, True, Rendering()),  # the harness would put the start token before the template
        (DATED, False, Rendering()),
        (THINKING, False, Rendering()),  # begins every answer with an empty thought
        (None, True, PLAIN),
    ],
)
def test_a_model_reads_before_its_answer_what_it_read_in_training(
    template: str | None, start: bool, rendering: Rendering, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    folder = chat_folder(tmp_path / "model", template, start=start)
    asked = spec(rendering=rendering)
    played = Played(AutoTokenizer.from_pretrained(folder), rendering)
    tasks = tasks_folder(tmp_path / "tasks", asked)
    evaluated(folder, tasks, played, monkeypatch)
    solved = [row for p in asked.planned() if p.name.startswith("solved") for row in asked_of(tasks, p.name)]
    questions = [row["prompt"].removesuffix(PLAIN.separator) for row in solved]
    expected = [played.prompt_ids(TRACES[question]) for question in questions]
    assert sorted(played.asked) == sorted(expected) and len(expected) == 16
    closing = encoded(played.tokenizer, TRACES[questions[0]], rendering).closing
    assert int(closing_tokens(played.tokenizer, closing)[-1]) in played.ends


def test_right_numbers_count_and_answers_that_were_cut_off_do_not(
    checkpoint: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    played = Played(AutoTokenizer.from_pretrained(checkpoint), Rendering())
    right, cut, wrong, spelt = asked_of(tasks, "solved_school")
    played.said = {
        right["prompt"]: (f"it is so\nAnswer: {right['text']}", True),
        cut["prompt"]: (f"it is so\nAnswer: {cut['text']}", False),
        wrong["prompt"]: (f"it is so\nAnswer: {wrong['text']}1", True),
        spelt["prompt"]: (f"The answer is {spelt['text']}.0", True),
    }
    found = evaluated(checkpoint, tasks, played, monkeypatch)

    def values(metric: str) -> list[float]:
        return [r.value for r in found if (r.task, r.metric) == ("solved_school", metric)]

    assert values("exact_match") == [1, 0, 0, 1] and values("truncated") == [0, 1, 0, 0]


def test_answers_that_do_not_end_are_counted(records: list[Record]) -> None:
    """A random model hardly ever ends within twelve tokens."""
    truncated = [r.value for r in records if r.metric == "truncated"]
    assert sum(truncated) > 8 and not any(r.value for r in records if r.metric == "exact_match")


def test_the_size_of_a_batch_changes_nothing_but_rounding(
    records: list[Record], checkpoint: Path, tasks: Path, tmp_path: Path
) -> None:
    for batch_size in (1, 16):
        other = records_of(checkpoint, tasks, tmp_path / f"{batch_size}", batch_size)
        assert [(r.task, r.item_hash, r.metric) for r in other] == [
            (r.task, r.item_hash, r.metric) for r in records
        ]
        assert [r.value for r in other] == pytest.approx([r.value for r in records], abs=1e-4)
        exact = [r.value for r in other if r.metric != "answer_nats"]
        assert exact == [r.value for r in records if r.metric != "answer_nats"]


def test_a_problem_that_does_not_fit_the_context_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    tasks = tasks_folder(tmp_path / "tasks", spec(max_new_tokens=CONTEXT - 20))
    with pytest.raises(UserError, match=rf"context is {CONTEXT}: lower evaluation\.max_new_tokens"):
        records_of(checkpoint, tasks, tmp_path / "out")
    short = chat_folder(tmp_path / "model", context=40)
    tasks = tasks_folder(tmp_path / "others", spec(max_new_tokens=1))
    with pytest.raises(UserError, match="tokens with its solution and the model's context is 40"):
        records_of(short, tasks, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_chat_template_is_refused_unless_texts_are_plain(tmp_path: Path) -> None:
    folder = chat_folder(tmp_path / "model", None)
    with pytest.raises(UserError, match=r"no chat template: use rendering\.template=plain"):
        records_of(folder, tasks_folder(tmp_path / "chat", spec()), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    plain = tasks_folder(tmp_path / "plain", spec(rendering=PLAIN))
    assert len(records_of(folder, plain, tmp_path / "out")) == 4 * (2 * 4 + 5 + 5)


def test_the_model_as_it_came_is_evaluated_like_a_checkpoint(
    records: list[Record], checkpoint: Path, tmp_path: Path
) -> None:
    stage = Evaluate(
        Files.of(checkpoint), BuildWorkedTasks(MadeProblems(), spec(), seed=0), seed=3, batch_size=4
    )
    store = Store(tmp_path / "store")
    Plan(store, [stage]).run(Machine())
    assert read_records(store.folder(stage) / "records.parquet") == records
    assert all(math.isfinite(record.value) for record in records)
