"""Benchmarks of AIR's kind through the harness: played by local files of the same form."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airlab.errors import UserError
from airlab.schema.evaluation import HarnessSpec, HarnessTask
from airlab.text import template_process
from tests.unit.evaluation.made_worked import chat_folder
from tests.unit.text.made_chat import CHATML

QUESTIONS = [("What is 1 + 1?", "2"), ("What is 2 + 3?", "5"), ("What is 4 + 4?", "8")]
SAID = [
    "It is $1 + 1$, so $\\boxed{2}$.",
    "It is $\\boxed{6}$, no, $\\boxed{5}$.",
    "It is $8 + 0$ or $\\boxed{9}$.",
]


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The harness with one more task, a stand-in for MATH500."""
    found = pytest.importorskip("airlab.evaluation.harness")
    import datasets
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"problem": q, "solution": f"\\boxed{{{a}}}", "answer": a} for q, a in QUESTIONS]
    data = tmp_path / "test.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "task": "math_stand_in",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "Problem: {{problem}}\nAnswer:",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["Problem:"], "do_sample": False, "temperature": 0.0},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "num_fewshot": 0,
        "metadata": {"version": 1.0},
    }
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "stand_in.yaml").write_text(json.dumps(config))
    monkeypatch.setattr(
        found,
        "TaskManager",
        lambda: TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False),
    )
    return found


def spec(**changes: Any) -> HarnessSpec:
    task = {
        "name": "MATH", "harness_name": "math_stand_in", "shots": 0, "metric": "exact_match", "chat": True,
        "max_new_tokens": 6, "judge": "last_boxed",
    }  # fmt: skip
    return HarnessSpec(tasks=(HarnessTask.model_validate(task | changes),))


def evaluated(harness: Any, folder: Path, asked: HarnessSpec) -> list[Any]:
    records: list[Any] = harness.evaluate_harness(
        folder, asked, batch_size=2, device="cpu", seed=0, mask=None
    )
    return records


def test_questions_go_through_the_chat_template_and_the_last_box_is_judged(
    harness: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def say(model: Any, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        asked.extend((request.args[0], request.args[1]["max_gen_toks"]) for request in requests)
        assert not any(request.args[1]["do_sample"] for request in requests)
        return SAID

    folder = chat_folder(tmp_path / "model")
    monkeypatch.setattr(harness.HFLM, "generate_until", say)
    by_box = evaluated(harness, folder, spec())
    assert [record.value for record in by_box] == [1.0, 1.0, 0.0]
    assert asked == [
        (f"<|im_start|>user\nProblem: {question}\nAnswer:<|im_end|>\n<|im_start|>assistant\n", 6)
        for question, _ in QUESTIONS
    ]
    asked.clear()
    evaluated(harness, folder, spec(chat=False))
    assert [prompt for prompt, _ in asked] == [f"Problem: {question}\nAnswer:" for question, _ in QUESTIONS]
    # The benchmark's own judge compares all that was said.
    assert [record.value for record in evaluated(harness, folder, spec(judge="own"))] == [0.0, 0.0, 0.0]


def test_several_sampled_answers_are_asked_of_the_benchmark_itself(
    harness: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def say(model: Any, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        asked.extend(request.args[1] for request in requests)
        return [SAID[0]] * len(requests)

    monkeypatch.setattr(harness.HFLM, "generate_until", say)
    sampling = {"samples": 4, "temperature": 0.5, "top_p": 0.9}
    records = evaluated(
        harness, chat_folder(tmp_path / "model"), spec(sampling=sampling, max_new_tokens=None)
    )
    assert len(asked) == 4 * 3 and len(records) == 3
    for told in asked:
        assert (told["do_sample"], told["temperature"], told["top_p"]) == (True, 0.5, 0.9)
        assert told["until"] == ["Problem:"]


def test_a_real_model_answers_within_the_tokens_allowed(harness: Any, tmp_path: Path) -> None:
    records = evaluated(harness, chat_folder(tmp_path / "model"), spec())
    assert [record.task for record in records] == ["MATH"] * 3 and {r.value for r in records} <= {0.0, 1.0}
    assert len({record.item_hash for record in records}) == 3


def test_a_template_that_computes_for_ever_at_a_later_question_is_given_up(
    harness: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_process, "_SECONDS", 1)
    monkeypatch.setattr(harness.HFLM, "generate_until", None)  # nothing is generated
    endless = "{% if '4 + 4' in messages[-1]['content'] %}{{ messages[0]['role'] * 10**10 }}{% endif %}"
    with pytest.raises(UserError, match="takes more than 1 s or 512 MB for one chat"):
        evaluated(harness, chat_folder(tmp_path / "model", endless + CHATML), spec())


def test_what_cannot_be_asked_is_refused_before_the_first_item(
    harness: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "lm_eval", SimpleNamespace())  # nothing may be asked of it
    with pytest.raises(UserError, match="tokenizer has no chat template: set chat to false"):
        evaluated(harness, chat_folder(tmp_path / "plain", None), spec())
    with pytest.raises(UserError, match="answers of 32768 tokens and the model's context is 256"):
        evaluated(harness, chat_folder(tmp_path / "short"), spec(max_new_tokens=32768))
