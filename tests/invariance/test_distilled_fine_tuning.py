"""Distillation is the same however a batch is cut, and without a share for the teacher it is none."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from airlab.errors import UserError
from airlab.models.load import load_tokenizer
from airlab.schema.fine_tuning import Distillation, FineTuning
from airlab.schema.machine import Machine
from airlab.stages.fine_tune import FineTune
from airlab.store.files import Files
from airlab.training.distillation import buckets
from airlab.training.fine_tune import TuningJob, fine_tune
from airlab.training.launch import launch
from airlab.training.trace_data import PackedTraces, TraceData
from tests.unit.training.made_teaching import TOP_K, taught, teacher_folder
from tests.unit.training.made_training import MadeScores, built, model_folder, training

BATCH = 8
RECIPE = FineTuning(epochs=1, batch_sequences=BATCH, learning_rate=3e-3)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Student, teacher, data with weights, and the tables of the teacher and of the student itself."""
    folder = tmp_path_factory.mktemp("distilling")
    student = model_folder(folder / "student")
    data, plain = training(student, MadeScores(uniform=False)), training(student)
    teachers = {"teacher": teacher_folder(folder / "teacher"), "itself": student}
    (folder / "data").symlink_to(built(data, folder / "store"))
    for name, model in teachers.items():
        (folder / f"of-{name}").symlink_to(built(taught(model, plain), folder / "store"))
    return folder


def a_job(
    root: Path, name: str, machine: Machine, spec: Distillation | None, teacher: str = "of-teacher"
) -> TuningJob:
    (root / name).mkdir()
    return TuningJob(
        model=root / "student",
        data=root / "data",
        teacher=None if spec is None else root / teacher,
        output=root / name,
        recipe=RECIPE.model_copy(update={"distillation": spec}),
        seed=0,
        machine=machine,
        checkpoint_every_s=0.0,
    )


def first_update(folder: Path) -> tuple[float, float]:
    row = json.loads((folder / "curves.jsonl").read_text().splitlines()[0])
    return row["loss"], row["grad_norm"]


def by_definition(root: Path, spec: Distillation) -> tuple[float, float]:
    """Loss and norm of the first update in float64, one trace after the other, from both models' logits."""
    data = TraceData.open(root / "data")
    packed = PackedTraces(data, RECIPE.epochs, BATCH, seed=0)
    student, teacher = (
        AutoModelForCausalLM.from_pretrained(root / name, dtype=torch.float64)
        for name in ("student", "teacher")
    )
    known = len(load_tokenizer(root / "student"))
    total, weight = torch.zeros((), dtype=torch.float64), 0.0
    for trace in (trace for sequence in range(BATCH) for trace in packed._members[sequence]):
        ids = torch.from_numpy(data.ids(trace).astype(np.int64))
        own = slice(data.offsets[trace], data.offsets[trace] + data.lengths[trace])
        weights = torch.from_numpy(data.weights[own].astype(np.float64))[1:]
        logits = student(input_ids=ids[None]).logits[0, :-1]
        with torch.no_grad():
            told = teacher(input_ids=ids[None]).logits[0, :-1]
        tokens = told[:, :known].topk(TOP_K, dim=1).indices
        p, q = (buckets(some, tokens) / spec.temperature for some in (told, logits))
        p, q = p.log_softmax(1), q.log_softmax(1)
        if spec.divergence == "reverse_kl":
            p, q = q, p
        kl = (p.exp() * (p - q)).sum(1) * spec.temperature**2
        losses = spec.share * kl + (1 - spec.share) * cross_entropy(logits, ids[1:], reduction="none")
        total, weight = total + (losses * weights).sum(), weight + float(weights.sum())
    (total / weight).backward()
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in student.parameters()])
    return total.item() / weight, norm.item()


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl"])
def test_the_first_update_is_that_of_float64_however_it_is_cut(
    root: Path, monkeypatch: pytest.MonkeyPatch, divergence: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    spec = Distillation.model_validate({"divergence": divergence, "temperature": 2.0, "share": 0.6})
    loss, norm = by_definition(root, spec)
    machines = [Machine(sequences_per_micro_batch=BATCH), Machine(sequences_per_micro_batch=3)]
    if divergence == "reverse_kl":
        machines.append(Machine(sequences_per_micro_batch=3, processes=2))
    for machine in machines:
        job = a_job(
            root, f"{divergence}-{machine.sequences_per_micro_batch}-{machine.processes}", machine, spec
        )
        launch(job)
        found = first_update(job.output)
        np.testing.assert_allclose(found[0], loss, rtol=1e-5)
        np.testing.assert_allclose(found[1], norm, rtol=1e-4)


def test_no_share_for_the_teacher_is_plain_fine_tuning_bit_for_bit(root: Path) -> None:
    machine = Machine(sequences_per_micro_batch=3)
    jobs = {
        name: a_job(root, name, machine, spec)
        for name, spec in (
            ("plain", None),
            ("no-share", Distillation(share=0.0)),
            ("some-share", Distillation(share=0.5)),
        )
    }
    for job in jobs.values():
        fine_tune(job)
    for name in ("model.safetensors", "curves.jsonl"):
        plain, none, some = ((jobs[of].output / name).read_bytes() for of in jobs)
        assert none == plain and some != plain


def test_a_student_that_is_its_own_teacher_starts_with_nothing_to_learn(root: Path) -> None:
    job = a_job(root, "own-teacher", Machine(), Distillation(share=1.0), "of-itself")
    fine_tune(job)
    loss, norm = first_update(job.output)
    assert abs(loss) < 1e-6 and norm < 1e-4


def test_a_checkpoint_of_another_teacher_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from airlab.training import loop

    job = a_job(root, "stopped", Machine(), Distillation())
    write = loop.write_checkpoint

    def write_and_stop(*what: Any) -> None:
        write(*what)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "write_checkpoint", write_and_stop)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(job)
    with pytest.raises(UserError, match="another teacher"):
        fine_tune(job.model_copy(update={"teacher": root / "of-itself"}))


def test_a_recipe_and_its_teacher_come_together_or_not_at_all(root: Path) -> None:
    model = Files.of(root / "student")
    data = training(root / "student")
    teacher = taught(root / "teacher", data)
    distilled = RECIPE.model_copy(update={"distillation": Distillation()})
    for recipe, given in ((RECIPE, teacher), (distilled, None)):
        with pytest.raises(UserError, match="both or neither"):
            FineTune(model, data, recipe, 0, given)
    folder = built(FineTune(model, data, distilled, 0, teacher), root / "store")
    assert (folder / "model.safetensors").exists()
