"""DSIR towards a task or a benchmark: of what it is made, and that nothing evaluated is in it."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from airlab.errors import UserError
from airlab.evaluation import client, worker
from airlab.evaluation.targets import benchmark_texts
from airlab.evaluation.tasks.build import build_tasks
from airlab.evaluation.tasks.items import Document
from airlab.schema.evaluation import (
    BitsPerByte,
    Choices,
    HarnessSpec,
    HarnessTask,
    KeyRetrieval,
    Reasoning,
    TaskSpec,
)
from airlab.schema.machine import Machine
from airlab.schema.traces import Aggregation
from airlab.selection.selectors import make_selector
from airlab.selection.selectors.dsir import Dsir
from airlab.stages.sample_target import ITEMS, SampleBenchmark, read_target, task_stage
from airlab.stages.score_traces import score_steps, score_traces
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store
from airlab.text.documents import write_documents
from tests.unit.selection.made_units import make_units, taken

SPEC = TaskSpec(
    minimum_items=2,
    tasks=(
        BitsPerByte(items=3, domains=("prose", "reasoning"), max_bytes=80, min_bytes=20),
        KeyRetrieval(items=5, pairs=3),
        Reasoning(items=3, max_bytes=300),
        Choices(
            kind="next_passage", items=3, domains=("prose",), choices=3, prompt_bytes=60, choice_bytes=40
        ),
    ),
)
NAMES = [planned.name for planned in SPEC.planned()]
WORDS = ["river", "stone", "music", "winter", "garden", "letter", "candle", "forest", "meadow", "copper"]


def made(part: str, first: int) -> list[Document]:
    """Prose and worked problems; no two parts have a sentence in common."""
    documents = []
    for number in range(first, first + 6):
        draw = np.random.default_rng(number)
        sentences = [f"{' '.join(draw.permutation(WORDS)[:8])} {part}{number}." for _ in range(5)]
        problems = [
            f"Question: Add {number} and {other} {part}\nStep 1: {number} + {other} = {number + other}\n"
            f"Answer: {number + other}"
            for other in range(3)
        ]
        for domain, text in (("prose", " ".join(sentences)), ("reasoning", "\n\n".join(problems))):
            documents.append(Document(f"{domain}-{number}", domain, "made==1", text))
    return documents


OWN, HELD_OUT = made("own", 0), made("held", 100)


@dataclass(frozen=True)
class SplitTexts(Stage):
    """A corpus with a held-out part, or without."""

    VERSION: ClassVar[int] = 1
    held_out: bool

    def run(self, work: Workdir, machine: Machine) -> None:
        from airlab.text.documents import Document as Row

        parts = {"documents.parquet": OWN} | ({"heldout.parquet": HELD_OUT} if self.held_out else {})
        for name, documents in parts.items():
            with work.writing(name) as path:
                write_documents(path, (Row(d.unit_id, d.domain, d.text, d.source) for d in documents))


def sampled(root: Path, stage: Stage) -> list[str]:
    store = Store(root)
    Plan(store, [stage]).run(Machine())
    texts: list[str] = read_target(store.folder(stage))["text"].tolist()
    return texts


def evaluated(documents: list[Document]) -> dict[str, set[str]]:
    built = build_tasks(documents, SPEC, 0)
    return {task.name: {item.prompt + item.choices[item.answer] for item in task.items} for task in built}


@pytest.mark.parametrize("name", NAMES)
def test_a_tasks_target_is_of_the_corpus_own_documents_and_holds_nothing_evaluated(
    tmp_path: Path, name: str
) -> None:
    with_held_out, without = (
        sampled(tmp_path / str(held_out), task_stage(SplitTexts(held_out), name, SPEC))
        for held_out in (True, False)
    )
    assert with_held_out == without, "held-out documents are not even read"
    assert not set(without) & evaluated(HELD_OUT)[name]
    assert not any("held" in text for text in without)
    if name == "key_retrieval":
        assert ITEMS - 5 < len(without) <= ITEMS, "but for the same words drawn twice"
    else:
        assert all("own" in text or "Answer" in text for text in without)
        assert len(without) > len(evaluated(OWN)[name]), "more than evaluation would take"


def test_what_is_made_up_is_made_up_anew_even_where_the_documents_are_the_evaluated_ones() -> None:
    from airlab.evaluation.targets import task_texts

    texts = task_texts(HELD_OUT, SPEC.tasks[1], "key_retrieval")
    assert len(texts) == 5 and not set(texts) & evaluated(HELD_OUT)["key_retrieval"]


def test_a_worked_problem_is_in_the_target_with_its_answer(tmp_path: Path) -> None:
    texts = sampled(tmp_path, task_stage(SplitTexts(True), "reasoning_worked", SPEC))
    assert "Question: Add 3 and 2 own\nStep 1: 3 + 2 = 5\nAnswer: 5" in texts
    choices = sampled(tmp_path, task_stage(SplitTexts(True), "next_passage", SPEC))
    own = {d.text for d in OWN}
    assert choices and all(any(text in one for one in own) for text in choices), "right choices only"


def test_how_many_items_are_evaluated_does_not_move_the_target() -> None:
    corpus = SplitTexts(True)
    fewer = SPEC.model_copy(update={"tasks": tuple(t.model_copy(update={"items": 2}) for t in SPEC.tasks)})
    for name in NAMES:
        before, after = (fingerprint(task_stage(corpus, name, spec)) for spec in (SPEC, fewer))
        assert before == after
    assert len({fingerprint(task_stage(corpus, name, SPEC)) for name in NAMES}) == len(NAMES)


def test_a_benchmark_of_the_evaluation_is_found_by_its_name_there() -> None:
    spec = HarnessSpec(
        tasks=(HarnessTask(name="ARC-C", harness_name="arc_challenge", shots=5, metric="acc"),)
    )
    assert task_stage(SplitTexts(True), "ARC-C", spec) == SampleBenchmark("arc_challenge")
    with pytest.raises(UserError, match="no task 'GSM8K' to select towards; it has ARC-C"):
        task_stage(SplitTexts(True), "GSM8K", spec)


def test_tasks_that_are_not_there_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no task 'next_pasage' .* bits_per_byte_prose, .*next_passage"):
        task_stage(SplitTexts(True), "next_pasage", SPEC)
    with pytest.raises(UserError, match="no evaluation whose task 'next_passage'"):
        task_stage(SplitTexts(True), "next_passage", None)
    elsewhere = SPEC.model_copy(update={"tasks": (Reasoning(domain="law"),)})
    with pytest.raises(UserError, match=r"own documents cannot stand .* towards reasoning_final: .*'law'"):
        sampled(tmp_path, task_stage(SplitTexts(True), "reasoning_final", elsewhere))


def dsir(**settings: Any) -> Dsir:
    selector = make_selector({"kind": "dsir", **settings})
    assert isinstance(selector, Dsir)
    return selector


@pytest.mark.parametrize("target", [{"towards_task": "reasoning_worked"}, {"towards_benchmark": "gsm8k"}])
def test_what_is_like_the_targets_items_scores_higher(target: dict[str, str]) -> None:
    draw = np.random.default_rng(0)
    kinds = draw.choice(["step sum answer", "river stone music"], 60)
    texts = [" ".join(draw.choice(kind.split(), 20)) for kind in kinds]
    items = np.array(["step sum answer", "answer step sum", "sum answer"], dtype=object)
    selector = dsir(**target)

    def measured(need: object) -> dict[str, np.ndarray]:
        assert (need,) == selector.needs()
        return {"text": items}

    units = replace(make_units(60), texts=lambda: texts, measured=measured)
    scores = selector.score(units, 0)
    wanted = kinds == "step sum answer"
    assert scores[wanted].min() > scores[~wanted].max()
    order = draw.permutation(60)
    shuffled = replace(taken(units, order), measured=lambda need: {"text": items[::-1]})
    np.testing.assert_array_equal(selector.score(shuffled, 0), scores[order])
    with pytest.raises(
        UserError, match=f"needs texts of the .* {next(iter(target.values()))}.*use it in a run"
    ):
        selector.score(make_units(), 0)


def test_a_benchmark_is_refused_where_there_is_no_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"selecting towards gsm8k .* HF_HUB_OFFLINE"):
        Plan(Store(tmp_path), [SampleBenchmark("gsm8k")]).run(Machine())


BENCHMARKS: dict[str, dict[str, Any]] = {
    "sums": {"training_split": "train", "test_split": "test"},
    "checked": {"validation_split": "validation", "test_split": "test"},
    "bare": {"test_split": "test"},
    "trained": {"training_split": "test", "test_split": "test"},
    "chosen": {
        "training_split": "train",
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_choice": ["odd", "even"],
        "doc_to_target": "{{parity}}",
    },
    "filled": {
        "training_split": "train",
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{parity}}",
        "doc_to_choice": ["The odd number", "The even number"],
        "doc_to_target": "is {{q}}",
    },
}


@pytest.fixture
def manager(tmp_path: Path) -> Any:
    """Benchmarks as the harness describes them, their data in files; a training item is evaluated too."""
    from lm_eval.tasks import TaskManager

    rows = {"train": (1, 2, 9), "validation": (3, 4), "test": (8, 9)}
    for split, numbers in rows.items():
        lines = [json.dumps({"q": str(n), "a": str(n + n), "parity": 1 - n % 2}) for n in numbers]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    files = {split: str(tmp_path / f"{split}.jsonl") for split in rows}
    for name, settings in BENCHMARKS.items():
        config = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": files, "cache_dir": str(tmp_path / "cache")},
            "output_type": "generate_until",
            "doc_to_text": "Question: {{q}} twice\nAnswer:",
            "doc_to_target": "{{a}}",
            "metric_list": [{"metric": "acc" if "output_type" in settings else "exact_match"}],
            **settings,
        }
        (tmp_path / f"{name}.yaml").write_text(json.dumps(config))
    (tmp_path / "group.yaml").write_text(json.dumps({"group": "both", "task": ["sums", "checked"]}))
    return TaskManager(include_path=str(tmp_path), include_defaults=False)


def test_a_benchmarks_target_is_of_its_training_items_and_holds_none_that_is_evaluated(manager: Any) -> None:
    sums = ["Question: 1 twice\nAnswer: 2", "Question: 2 twice\nAnswer: 4"]
    checked = ["Question: 3 twice\nAnswer: 6", "Question: 4 twice\nAnswer: 8"]
    assert benchmark_texts("sums", manager) == (sums, {"left_out": 1})
    assert benchmark_texts("checked", manager) == (checked, {"left_out": 0})
    assert benchmark_texts("both", manager) == (checked + sums, {"left_out": 1})


def test_a_benchmarks_choices_are_written_as_the_harness_writes_examples(manager: Any) -> None:
    assert benchmark_texts("chosen", manager)[0] == [
        "Question: 1 twice\nAnswer: odd",
        "Question: 2 twice\nAnswer: even",
    ]
    assert benchmark_texts("filled", manager)[0] == ["The odd number is 1", "The even number is 2"]


def test_benchmarks_without_other_items_are_refused(manager: Any) -> None:
    for name in ("bare", "trained"):
        with pytest.raises(UserError, match=f"benchmark {name} .*so nothing can be selected towards it"):
            benchmark_texts(name, manager)
    with pytest.raises(UserError, match="no benchmark 'summs'"):
        benchmark_texts("summs", manager)


@pytest.mark.parametrize("target", [{"towards_task": "reasoning_worked"}, {"towards_benchmark": "gsm8k"}])
def test_traces_and_steps_are_not_selected_towards_what_documents_are(target: dict[str, str]) -> None:
    losses: Any = None  # refused before anything is looked at
    with pytest.raises(UserError, match="which is for documents: select traces towards a domain or a text"):
        score_traces(losses, dsir(**target), 0, Aggregation(), {})
    with pytest.raises(UserError, match="which single steps do not have"):
        score_steps(losses, dsir(**target), 0, 0.1)


def test_what_is_sampled_is_what_the_harness_tells(
    tmp_path: Path, manager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of a request from the stage to the harness and back, but for the process and the hub."""
    monkeypatch.setattr("lm_eval.tasks.TaskManager", lambda: manager)
    monkeypatch.setattr("airlab.evaluation.hub.require_hub", lambda *_: None)
    answers = SimpleNamespace(ask=lambda request: worker._answer(request, lambda _: None))
    monkeypatch.setattr(client, "worker", lambda *, offline: answers)
    store, stage = Store(tmp_path / "store"), SampleBenchmark("sums")
    Plan(store, [stage]).run(Machine())
    assert read_target(store.folder(stage))["text"].tolist() == benchmark_texts("sums", manager)[0]
    notes = json.loads((store.folder(stage) / "record.json").read_text())["notes"]
    assert (notes["texts"], notes["left_out"]) == (2, 1) and notes["versions"]["lm_eval"]
