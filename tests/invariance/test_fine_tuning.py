"""Weighted fine-tuning is the same however a batch is cut, and equal weights are plain fine-tuning."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from airlab.errors import UserError
from airlab.models.load import load_tokenizer
from airlab.schema.fine_tuning import FineTuning
from airlab.schema.machine import Machine
from airlab.stages.fine_tune import FineTune
from airlab.store.files import Files
from airlab.store.store import Store
from airlab.training import recompute
from airlab.training.fine_tune import TuningJob, fine_tune
from airlab.training.launch import launch
from airlab.training.trace_data import PackedTraces, TraceData
from tests.unit.training.made_training import MadeScores, built, model_folder, training

BATCH = 8
RECIPE = FineTuning(epochs=3, batch_sequences=BATCH, learning_rate=3e-3)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its training data weighted, equally weighted and plain, and one run with weights."""
    folder = tmp_path_factory.mktemp("tuning")
    model = model_folder(folder / "model")
    scores = {"weighted": MadeScores(uniform=False), "uniform": MadeScores(uniform=True), "plain": None}
    for name, scored in scores.items():
        (folder / name).symlink_to(built(training(model, scored), folder / "store"))
    fine_tune(a_job(folder, "whole", Machine(sequences_per_micro_batch=BATCH)))
    return folder


def a_job(root: Path, name: str, machine: Machine, data: str = "weighted") -> TuningJob:
    (root / name).mkdir()
    return TuningJob(
        model=root / "model",
        data=root / data,
        output=root / name,
        recipe=RECIPE,
        seed=0,
        machine=machine,
        checkpoint_every_s=0.0,
    )


def curves(folder: Path) -> dict[str, np.ndarray]:
    rows = [json.loads(line) for line in (folder / "curves.jsonl").read_text().splitlines()]
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def assert_same_training(one: Path, other: Path) -> None:
    first, second = curves(one), curves(other)
    assert len(first["loss"]) > 6 and first["loss"][-1] < 0.9 * first["loss"][0], "nothing was learned"
    np.testing.assert_array_equal(first["learning_rate"], second["learning_rate"])
    np.testing.assert_allclose(first["loss"][0], second["loss"][0], rtol=1e-6)
    np.testing.assert_allclose(first["loss"], second["loss"], rtol=1e-4)
    np.testing.assert_allclose(first["grad_norm"], second["grad_norm"], rtol=1e-2)


def test_the_first_update_is_that_of_float64_one_trace_after_the_other(root: Path) -> None:
    """Normalised by the weights of the whole batch, however many micro-batches it took."""
    data = TraceData.open(root / "weighted")
    packed = PackedTraces(data, RECIPE.epochs, BATCH, seed=0)
    model = AutoModelForCausalLM.from_pretrained(root / "model", dtype=torch.float64)
    total, weight = torch.zeros((), dtype=torch.float64), 0.0
    for trace in (trace for sequence in range(BATCH) for trace in packed._members[sequence]):
        own = slice(data.offsets[trace], data.offsets[trace] + data.lengths[trace])
        ids = torch.from_numpy(data.tokens[own].astype(np.int64))
        weights = torch.from_numpy(data.weights[own].astype(np.float64))[1:]
        losses = cross_entropy(model(input_ids=ids[None]).logits[0, :-1], ids[1:], reduction="none")
        total, weight = total + (losses * weights).sum(), weight + float(weights.sum())
    (total / weight).backward()
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in model.parameters()])
    cut = a_job(root, "in-cuts", Machine(sequences_per_micro_batch=3))
    fine_tune(cut)
    for folder in (root / "whole", cut.output):
        found = curves(folder)
        np.testing.assert_allclose(found["loss"][0], total.item() / weight, rtol=1e-6)
        np.testing.assert_allclose(found["grad_norm"][0], norm.item(), rtol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_micro_batches_do_not_change_the_training(root: Path, size: int) -> None:
    job = a_job(root, f"micro-{size}", Machine(sequences_per_micro_batch=size))
    fine_tune(job)
    assert_same_training(root / "whole", job.output)


def test_two_processes_train_like_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    job = a_job(root, "processes", Machine(sequences_per_micro_batch=3, processes=2))
    facts = launch(job)
    assert facts["resumed_at_step"] == 0
    assert_same_training(root / "whole", job.output)
    one, two = (load_file(folder / "model.safetensors") for folder in (root / "whole", job.output))
    assert one.keys() == two.keys()


def test_curves_count_the_traces_tokens_and_no_padding(root: Path) -> None:
    data = TraceData.open(root / "weighted")
    packed = PackedTraces(data, RECIPE.epochs, BATCH, seed=0)
    counted = curves(root / "whole")["tokens"]
    assert counted[-1] == data.lengths.sum() * RECIPE.epochs < packed.n_sequences * packed.context
    first = sum(int(data.lengths[traces].sum()) for traces in packed._members[:BATCH])
    assert counted[0] == first


def test_equal_weights_are_plain_fine_tuning_bit_for_bit_and_others_are_not(root: Path) -> None:
    machine = Machine(sequences_per_micro_batch=3)
    for name in ("uniform", "plain"):
        fine_tune(a_job(root, f"{name}-run", machine, name))
    plain, uniform = ((root / f"{name}-run") for name in ("plain", "uniform"))
    for name in ("model.safetensors", "curves.jsonl"):
        assert (plain / name).read_bytes() == (uniform / name).read_bytes()
    assert (plain / "model.safetensors").read_bytes() != (root / "whole" / "model.safetensors").read_bytes()


def test_the_stage_leaves_a_model_that_can_be_loaded_and_scored(root: Path, tmp_path: Path) -> None:
    from airlab.models.load import load_causal_lm

    stage = FineTune(Files.of(root / "model"), training(root / "model"), RECIPE, seed=1, teacher=None)
    folder = built(stage, tmp_path)
    assert not list(folder.glob("resume*"))
    before, after = load_causal_lm(root / "model"), load_causal_lm(folder)
    assert after.geometry == before.geometry and after.digest != before.digest
    assert after.tokenizer.get_vocab() == before.tokenizer.get_vocab()
    assert Store(tmp_path).find(stage) == folder


def test_data_of_another_vocabulary_are_refused(root: Path) -> None:
    other = model_folder(root / "other-words")
    tokenizer = load_tokenizer(other)
    tokenizer.add_tokens(["two"])
    tokenizer.save_pretrained(other)
    (root / "foreign").symlink_to(built(training(other), root / "store"))
    with pytest.raises(UserError, match="another vocabulary"):
        fine_tune(a_job(root, "foreign-run", Machine(), "foreign"))


def test_a_batch_that_does_not_split_over_the_processes_is_refused(root: Path) -> None:
    with pytest.raises(UserError, match="does not split over 3"):
        launch(a_job(root, "three", Machine(processes=3)))


def test_layers_computed_again_keep_traces_apart_as_the_first_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit; a layer that forgot in the backward pass where traces begin would learn something else."""
    again, first = recompute.attention.traces_again, []

    def counted() -> Any:
        first.append(None)
        return again()

    monkeypatch.setattr(recompute.attention, "traces_again", counted)
    job = a_job(root, "recomputed", Machine(sequences_per_micro_batch=BATCH, recompute=True))
    facts = fine_tune(job)
    assert len(first) >= int(str(facts["n_steps"])), "no layer was computed again"
    for name in ("model.safetensors", "curves.jsonl"):
        assert (job.output / name).read_bytes() == (root / "whole" / name).read_bytes()
