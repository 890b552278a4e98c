"""lm-eval over a model with masked heads: the right heads, all items, and nobody else's."""

import json
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from airlab.errors import UserError
from airlab.evaluation.client import evaluate
from airlab.evaluation.records import Record, read_records
from airlab.evaluation.tasks.files import write_tasks
from airlab.evaluation.tasks.items import BuiltTask, Item
from airlab.heads.control import other_heads, same_layer_heads
from airlab.heads.mask import HeadMask
from airlab.models.load import weights_digest
from airlab.models.masked import NAME
from airlab.schema.evaluation import (
    CHOICE_METRICS,
    BitsPerByte,
    HarnessSpec,
    HarnessTask,
    KeyRetrieval,
    TaskSpec,
)
from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.stages.build_tasks import BuildTasks
from airlab.stages.evaluate import Evaluate
from airlab.stages.evaluate_masked import EvaluateMasked
from airlab.store.files import Files
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store
from tests.unit.cli.model_folders import planted_folder
from tests.unit.evaluation import test_evaluation_stages as stages
from tests.unit.heads.test_planted_head import PLANTED

BEFORE = (0, 1)
"""The planted head reads what this one writes, so it is no head that may be missed."""

ITEMS, PAIRS = 40, 4


def retrieval_items() -> tuple[Item, ...]:
    """Pairs of characters that all differ; asked for the second of one of them."""
    items = []
    for number in range(ITEMS):
        random = np.random.default_rng(number)
        drawn = "".join(random.permutation(list(string.ascii_letters))[: 2 * PAIRS])
        asked = int(random.integers(PAIRS))
        items.append(Item(drawn + drawn[2 * asked], tuple(drawn[1::2]), asked, None))
    return tuple(items)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_folder(tmp_path_factory.mktemp("models") / "planted")


@pytest.fixture(scope="module")
def retrieval(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retrieval")
    write_tasks(folder, [BuiltTask("pairs", "choice", CHOICE_METRICS, retrieval_items(), 1 / PAIRS)])
    return folder


def accuracy(model: Path, tasks: Path, output: Path, mask: HeadMask | None) -> float:
    facts = evaluate(model, tasks, output, batch_size=16, device="cpu", seed=0, mask=mask)
    records = read_records(output)
    assert facts["n_items"] == ITEMS and len(records) == ITEMS * len(CHOICE_METRICS)
    return float(np.mean([record.value for record in records if record.metric == "acc"]))


def test_masking_the_planted_head_destroys_retrieval_and_masking_others_does_not(
    planted: Path, retrieval: Path, tmp_path: Path
) -> None:
    digest = weights_digest(planted)

    def masked(heads: tuple[tuple[int, int], ...], mode: Any = "uniform") -> float:
        return accuracy(planted, retrieval, tmp_path / "records", HeadMask(heads, mode, digest))

    assert accuracy(planted, retrieval, tmp_path / "records", None) == 1.0
    assert masked((PLANTED,)) < 0.6 and masked((PLANTED,), "zero") < 0.6
    drawn = {
        d for n in range(9) for d in (other_heads([PLANTED], 2, 4, n), same_layer_heads([PLANTED], 4, n))
    }
    others = {head for (head,) in drawn} - {BEFORE}
    assert len(others) >= 5 and {layer for layer, _ in others} == {0, 1}
    assert masked((min(others),)) == masked((max(others),)) == masked(tuple(sorted(others))) == 1.0
    assert masked(tuple(sorted(others)), "zero") == 1.0


def test_heads_found_in_another_model_are_refused(planted: Path, retrieval: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found in another model"):
        accuracy(planted, retrieval, tmp_path / "r", HeadMask((PLANTED,), "uniform", "0" * 64))
    with pytest.raises(UserError, match=r"head \[2, 0\] does not exist"):
        accuracy(planted, retrieval, tmp_path / "r", HeadMask(((2, 0),), "uniform", None))
    assert not (tmp_path / "r").exists()
    assert accuracy(planted, retrieval, tmp_path / "r", None) == 1.0  # nothing is left masked in the process


SPEC = TaskSpec(
    minimum_items=5,
    tasks=(
        BitsPerByte(items=6, domains=("prose",), max_bytes=100, min_bytes=50),
        KeyRetrieval(items=5, pairs=2),
    ),
)


@dataclass(frozen=True)
class ListHeads(Stage):
    """Heads as another stage gives them."""

    VERSION: ClassVar[int] = 1
    heads: tuple[tuple[int, int], ...]

    def slug(self) -> str:
        return "listed"

    def run(self, work: Workdir, machine: Machine) -> None:
        with work.writing("heads.json") as path:
            path.write_text(json.dumps(self.heads))


@pytest.fixture
def store(tmp_path: Path, documents: Any, checkpoint: Path) -> Iterator[Store]:
    stages.SOURCES.update(documents=documents, checkpoint=checkpoint)
    yield Store(tmp_path / "store")


def run(store: Store, stage: Stage) -> list[Record]:
    Plan(store, [stage]).run(Machine())
    folder = store.find(stage)
    assert folder is not None
    return read_records(folder / "records.parquet")


def test_the_stage_masks_what_its_heads_say_and_records_it(store: Store) -> None:
    model, tasks = stages.FakePretrain(seed=0), BuildTasks(stages.FakePool(), SPEC, seed=0)
    intact = EvaluateMasked(model, None, None, tasks, batch_size=3)
    masked = EvaluateMasked(model, ListHeads(((0, 1), (1, 3))), Masking(), tasks, batch_size=3)
    zero = EvaluateMasked(model, masked.heads, Masking(mode="zero"), tasks, batch_size=3)
    found = {stage: run(store, stage) for stage in (intact, masked, zero)}
    assert {len(records) for records in found.values()} == {6 + 4 * 5}
    assert found[intact] == run(store, Evaluate(model, tasks, seed=0, batch_size=3))
    values = [[record.value for record in found[stage]] for stage in (intact, masked, zero)]
    assert (
        min(np.abs(np.subtract(a, b)).max() for a, b in zip(values, [*values[1:], values[0]], strict=True))
        > 1e-3
    )
    keys = [
        [(r.task, r.metric, r.item_hash, r.task_version) for r in found[s]] for s in (intact, masked, zero)
    ]
    assert keys[0] == keys[1] == keys[2]
    notes = {stage: store.record(stage).notes["masked_heads"] for stage in found}  # type: ignore[union-attr]
    assert notes == {intact: [], masked: [[0, 1], [1, 3]], zero: [[0, 1], [1, 3]]}
    assert (intact.slug(), masked.slug()) == ("intact", "list_heads-listed")


def test_a_users_own_file_of_heads_is_masked(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("[[1, 0]]")
    tasks = BuildTasks(stages.FakePool(), SPEC, seed=0)
    stage = EvaluateMasked(stages.FakePretrain(seed=0), Files.of(tmp_path / "mine.json"), Masking(), tasks)
    assert len(run(store, stage)) == 26
    assert store.record(stage).notes["masked_heads"] == [[1, 0]]  # type: ignore[union-attr]


def test_one_arms_failure_names_it_and_leaves_the_others_finished(store: Store) -> None:
    model, tasks = stages.FakePretrain(seed=0), BuildTasks(stages.FakePool(), SPEC, seed=0)
    good = EvaluateMasked(model, ListHeads(((0, 1),)), Masking(), tasks)
    bad = EvaluateMasked(model, ListHeads(((9, 0),)), Masking(), tasks)
    with pytest.raises(UserError, match=r"evaluate_masked list_heads-listed .*head \[9, 0\] does not exist"):
        Plan(store, [good, bad]).run(Machine())
    assert store.find(good) is not None and store.find(bad) is None
    assert [type(stage) for stage in Plan(store, [good, bad]).missing()] == [EvaluateMasked]


def test_heads_without_a_way_to_mask_them_make_no_sense() -> None:
    tasks = BuildTasks(stages.FakePool(), SPEC, seed=0)
    for heads, masking in ((None, Masking()), (ListHeads(((0, 1),)), None)):
        with pytest.raises(ValueError, match="both or neither"):
            EvaluateMasked(stages.FakePretrain(seed=0), heads, masking, tasks)


def test_lm_eval_generates_with_the_heads_masked_in_padded_batches(checkpoint: Path) -> None:
    harness = pytest.importorskip("airlab.evaluation.harness")
    from lm_eval.api.instance import Instance

    heads = HeadMask(((0, 1), (1, 2)), "uniform", weights_digest(checkpoint))
    prompts = ["a short one", "one that is a good deal longer than that", "two"]
    model = harness.load(harness.HFLM, checkpoint, len(prompts), "cpu")

    def generated() -> list[str]:
        asked: Any = {"until": [], "max_gen_toks": 8, "do_sample": False}
        requests = [Instance("generate_until", {}, (prompt, asked), i) for i, prompt in enumerate(prompts)]
        return model.generate_until(requests, disable_tqdm=True)

    def recomputed(prompt: str) -> str:
        ids = model.tok_encode(prompt)
        begin = len(ids)
        while len(ids) < begin + 8 and ids[-1] != model.eot_token_id:
            with torch.inference_mode():
                logits = model.model(torch.tensor([ids]), use_cache=False).logits[0, -1]
            ids.append(int(logits.argmax()))
        return model.tok_decode(ids[begin:])

    intact = generated()
    with harness.masking(model, checkpoint, heads):
        masked = generated()
        expected = [recomputed(prompt) for prompt in prompts]
    assert masked == expected and all(masked)
    assert masked != intact == generated()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused(planted: Path, retrieval: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="machine=cpu"):
        evaluate(planted, retrieval, tmp_path / "records", batch_size=4, device="cuda", seed=0)


def test_benchmarks_of_the_harness_are_asked_with_the_heads_masked(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands behind a hub is played here; the model, its loading and its masking are real."""
    harness = pytest.importorskip("airlab.evaluation.harness")
    seen = []

    def simple_evaluate(model: Any, tasks: list[str], **settings: Any) -> dict[str, Any]:
        seen.append(model.model.config._attn_implementation)
        with torch.inference_mode():
            logit = float(model.model(torch.tensor([[5, 6, 7, 8]])).logits[0, -1, 9])
        members = {"one": 1, "group": 2}[tasks[0]]
        names = [f"{tasks[0]}-{number}" for number in range(members)]
        sample = {"filter": "none", "metrics": ["acc"], "acc": logit}
        return {
            "samples": {name: [{**sample, "doc_hash": str(i)} for i in range(3)] for name in names},
            "n-samples": {name: {"original": 3} for name in names},
            "versions": {},
            "higher_is_better": {name: {"acc": True} for name in names},
        }

    monkeypatch.setattr(harness, "lm_eval", SimpleNamespace(simple_evaluate=simple_evaluate))
    monkeypatch.setattr(harness, "TaskManager", lambda: None)
    spec = HarnessSpec(
        tasks=tuple(HarnessTask(name=n, harness_name=n, shots=0, metric="acc") for n in ("one", "group"))
    )
    how: Any = {"batch_size": 2, "device": "cpu", "seed": 0}
    heads = HeadMask(((0, 1), (1, 2)), "uniform", weights_digest(checkpoint))
    masked = harness.evaluate_harness(checkpoint, spec, mask=heads, **how)
    intact = harness.evaluate_harness(checkpoint, spec, mask=None, **how)
    assert seen[:2] == [NAME] * 2 and NAME not in seen[2:]
    assert abs(masked[0].value - intact[0].value) > 1e-3
    assert [record.cluster for record in intact] == [None] * 3 + ["group-0"] * 3 + ["group-1"] * 3
