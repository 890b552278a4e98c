"""lm-eval over a tiny random Llama, in its own process, against likelihoods computed here in float64."""

import math
import os
import signal
from pathlib import Path

import pytest

from airlab.errors import UserError
from airlab.evaluation import client
from airlab.evaluation.client import EvaluationError, Worker, evaluate, worker
from airlab.evaluation.records import Record, read_records
from airlab.evaluation.tasks.build import build_tasks
from airlab.evaluation.tasks.files import write_tasks
from airlab.evaluation.tasks.items import BuiltTask, Document, Item
from airlab.schema.evaluation import BitsPerByte, Choices, KeyRetrieval, Reasoning, TaskSpec

SPEC = TaskSpec(
    minimum_items=5,
    tasks=(
        BitsPerByte(items=9, domains=("prose",), max_bytes=120, min_bytes=60),
        KeyRetrieval(items=7, pairs=3),
        Reasoning(items=8, max_bytes=300),
        Choices(kind="title", items=6, domains=("prose",), choice_bytes=40),
    ),
)


@pytest.fixture(scope="module")
def built(documents: list[Document]) -> list[BuiltTask]:
    return build_tasks(documents, SPEC, 0)


@pytest.fixture(scope="module")
def tasks(built: list[BuiltTask], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    write_tasks(folder, built)
    return folder


@pytest.fixture(scope="module")
def records(checkpoint: Path, tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    output = tmp_path_factory.mktemp("records") / "records.parquet"
    facts = evaluate(checkpoint, tasks, output, batch_size=4, device="cpu", seed=3)
    assert facts["versions"]["lm_eval"] and facts["n_items"] == 9 + 7 + 8 + 8 + 6
    return read_records(output)


@pytest.fixture(scope="module")
def log_likelihood(checkpoint: Path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float64)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)

    def of(prompt: str, answer: str) -> float:
        """ln p(answer | prompt); an empty prompt stands for the end-of-text token."""
        context = tokenizer.encode(prompt) or [tokenizer.eos_token_id]
        ids = torch.tensor([context + tokenizer.encode(answer)])
        with torch.no_grad():
            log_p = model(ids).logits.log_softmax(-1)[0, :-1]
        return float(log_p.gather(1, ids[0, 1:, None])[len(context) - 1 :].sum())

    return of


def values(records: list[Record], task: str, metric: str) -> list[float]:
    return [record.value for record in records if (record.task, record.metric) == (task, metric)]


def test_every_item_has_every_metric_of_its_task(records: list[Record], built: list[BuiltTask]) -> None:
    assert len({record.item_hash for record in records}) == sum(len(task.items) for task in built)
    for task in built:
        for metric in task.metrics:
            assert len(values(records, task.name, metric)) == len(task.items)
    assert {record.seed for record in records} == {3}
    clusters = {r.cluster for r in records if r.task == "title"}
    assert clusters == {item.cluster for task in built if task.name == "title" for item in task.items}
    assert {r.cluster for r in records if r.task == "key_retrieval"} == {None}
    assert {r.metric: r.higher_is_better for r in records} == {
        "bits_per_byte": False, "answer_nats": False, "acc": True, "acc_norm": True, "margin": True,
    }  # fmt: skip


def test_bits_per_byte_is_the_float64_likelihood(records, built, log_likelihood) -> None:
    items = built[0].items
    expected = [
        -log_likelihood("", item.choices[0]) / math.log(2) / len(item.choices[0].encode()) for item in items
    ]
    assert values(records, "bits_per_byte_prose", "bits_per_byte") == pytest.approx(expected, rel=1e-4)
    assert max(expected) - min(expected) > 0.01  # the comparison could have failed


def test_answer_nats_is_per_byte_of_the_answer(records, built, log_likelihood) -> None:
    for task in built[2:4]:
        expected = [
            -log_likelihood(item.prompt, item.choices[0]) / len(item.choices[0].encode())
            for item in task.items
        ]
        assert values(records, task.name, "answer_nats") == pytest.approx(expected, rel=1e-4)


def test_choices_are_scored_by_their_own_likelihood(records, built, log_likelihood) -> None:
    for name in ("key_retrieval", "title"):
        (task,) = (task for task in built if task.name == name)
        sums = [[log_likelihood(item.prompt, choice) for choice in item.choices] for item in task.items]
        per_byte = [
            [value / len(choice.encode()) for value, choice in zip(row, item.choices, strict=True)]
            for row, item in zip(sums, task.items, strict=True)
        ]
        right = [item.answer for item in task.items]
        acc = [float(max(row) == row[answer]) for row, answer in zip(sums, right, strict=True)]
        norm = [float(max(row) == row[answer]) for row, answer in zip(per_byte, right, strict=True)]
        margin = [
            row[answer] - max(value for index, value in enumerate(row) if index != answer)
            for row, answer in zip(per_byte, right, strict=True)
        ]
        assert values(records, name, "acc") == acc and values(records, name, "acc_norm") == norm
        assert values(records, name, "margin") == pytest.approx(margin, rel=1e-3, abs=1e-4)
        assert values(records, name, "answer_nats") == pytest.approx(
            [-row[answer] for row, answer in zip(per_byte, right, strict=True)], rel=1e-4
        )


def test_an_item_that_does_not_fit_the_context_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    item = Item("word " * 200, ("x",), 0, None)
    write_tasks(tmp_path, [BuiltTask("long", "likelihood", ("answer_nats",), (item,), None)])
    with pytest.raises(
        UserError, match="task long has an item of 1001 tokens and the model's context is 640"
    ):
        evaluate(checkpoint, tmp_path, tmp_path / "out", batch_size=1, device="cpu", seed=0)
    assert not (tmp_path / "out").exists()


def test_fewer_items_than_the_task_has_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    items = tuple(Item("", (f"text number {number}",), 0, None) for number in range(5))
    write_tasks(tmp_path, [BuiltTask("text", "rolling", ("bits_per_byte",), items, None)])
    lines = (tmp_path / "text.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "text.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(EvaluationError, match="returned 4 items of task text, which has 5"):
        evaluate(checkpoint, tmp_path, tmp_path / "out", batch_size=2, device="cpu", seed=0)


def test_one_process_serves_all_evaluations_and_is_not_ours(
    checkpoint: Path, tasks: Path, records, tmp_path
) -> None:
    before = worker(offline=True).pid
    facts = evaluate(checkpoint, tasks, tmp_path / "again", batch_size=4, device="cpu", seed=3)
    assert worker(offline=True).pid == before != os.getpid()
    assert facts["import_wall_s"] < 0.1
    assert read_records(tmp_path / "again") == records


def test_a_crash_tells_the_end_of_the_log_and_the_next_request_starts_afresh(monkeypatch) -> None:
    one = Worker(offline=True)
    try:
        with pytest.raises(EvaluationError, match="KeyError"):
            one.ask({})  # starts the process; an error inside leaves it running
        assert one.pid is not None
        os.kill(one.pid, signal.SIGSEGV)
        # As if it died after we looked: a process found dead before a request is simply started again.
        monkeypatch.setattr(one._process, "poll", lambda: None)
        with pytest.raises(
            EvaluationError, match=r"ended with exit code -11; its log ends with:\n(.|\n)*KeyError"
        ):
            one.ask({})
        assert one.pid is None
        with pytest.raises(EvaluationError, match="KeyError"):
            one.ask({})
    finally:
        one.close()
    assert one.pid is None


def test_the_local_process_has_its_hub_switched_off(monkeypatch) -> None:
    seen = {}

    def popen(arguments, **settings):
        seen.update(settings["env"])
        raise OSError("not started")

    monkeypatch.setattr(client.subprocess, "Popen", popen)
    one = Worker(offline=True)
    with pytest.raises(OSError, match="not started"):
        one.ask({})
    one.close()
    assert seen["HF_HUB_OFFLINE"] == seen["HF_DATASETS_OFFLINE"] == "1"
    assert not Path(seen["HF_DATASETS_CACHE"]).exists()  # removed with the worker
