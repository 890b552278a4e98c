"""The teacher's table says what the teacher says, survives an interruption, and serves no other tokens."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM

from airlab.errors import UserError
from airlab.models.load import load_tokenizer
from airlab.schema.machine import Machine
from airlab.stages import cache_teacher
from airlab.stages.cache_teacher import CacheTeacher
from airlab.store.files import Files
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store
from airlab.text.traces import Message, Trace, write_traces
from airlab.training.teacher import Teacher, TeacherTable
from airlab.training.trace_data import PackedTraces, TraceData
from tests.unit.cli.model_folders import VOCABULARY, random_folder
from tests.unit.training.made_teaching import TOP_K, taught, teacher_folder
from tests.unit.training.made_training import MadeScores, MadeSelection, built, model_folder, training

SHARD = 16


@dataclass(frozen=True)
class OtherTraces(Stage):
    """Of the same names, saying other things."""

    VERSION: ClassVar[int] = 1

    def run(self, work: Workdir, machine: Machine) -> None:
        with work.writing("traces.parquet") as path:
            write_traces(path, [Trace("t0", "a", (Message("user", "0?"),), "another")])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Student, teacher, plain data, and what the teacher says of them."""
    folder = tmp_path_factory.mktemp("teaching")
    data = training(model_folder(folder / "student"))
    stage = taught(teacher_folder(folder / "teacher"), data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache_teacher, "_TRACES_PER_SHARD", SHARD)
        (folder / "table").symlink_to(built(stage, folder / "store"))
    (folder / "plain").symlink_to(Store(folder / "store").folder(data))
    return folder


def test_each_predicted_token_has_what_the_teacher_says_of_it_alone(root: Path) -> None:
    data = TraceData.open(root / "plain")
    table = TeacherTable.open(root / "table", data)
    model = AutoModelForCausalLM.from_pretrained(root / "teacher", dtype=torch.float64)
    known = len(load_tokenizer(root / "teacher"))
    assert known < VOCABULARY, "the model has no rows that are no tokens"
    assert (
        len(table.tokens)
        == data.n_predicted.sum()
        == pq.read_metadata(root / "table/teacher.parquet").num_rows
    )
    for trace in range(len(data.unit_ids)):
        ids = torch.from_numpy(data.ids(trace).astype(np.int64))
        n = int(data.n_predicted[trace])
        with torch.no_grad():
            log_probs = model(input_ids=ids[None]).logits[0, -n - 1 : -1].log_softmax(1)
        own = slice(table.first[trace], table.first[trace] + n)
        tokens, found = torch.from_numpy(table.tokens[own].astype(np.int64)), table.log_probs[own]
        np.testing.assert_allclose(found[:, :-1], log_probs.gather(1, tokens), atol=2e-5)
        np.testing.assert_allclose(found[:, :-1], log_probs[:, :known].topk(TOP_K, dim=1).values, atol=2e-5)
        np.testing.assert_allclose(np.exp(found).sum(1), 1.0, atol=1e-6)


def test_the_batch_of_a_machine_changes_nothing_but_rounding(root: Path) -> None:
    data = TraceData.open(root / "plain")
    few, many = (
        Teacher(root / "teacher", data, TOP_K, "float32", Machine(tokens_per_batch=size)).ask(range(9))
        for size in (1, 4096)
    )
    assert few["token"] == many["token"] and few["unit_id"] == many["unit_id"]
    np.testing.assert_allclose(few["rest_log_prob"], many["rest_log_prob"], atol=1e-5)


def test_a_teacher_interrupted_is_asked_only_about_what_is_missing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_teacher, "_TRACES_PER_SHARD", SHARD)
    stage = taught(root / "teacher", training(root / "student"))
    ask, asked = Teacher.ask, []

    def interrupted(self: Teacher, traces: range) -> object:
        asked.append(traces)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return ask(self, traces)

    monkeypatch.setattr(Teacher, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        built(stage, tmp_path)
    folder = built(stage, tmp_path)
    assert asked[:3] == [range(0, 16), range(16, 32), range(32, 48)]
    assert asked[3:] == [range(32, 48), range(48, 60)]
    for name in ("teacher.parquet", "teacher.json"):
        assert (folder / name).read_bytes() == (root / "table" / name).read_bytes()
    assert not (folder / "shards").exists()
    assert pq.read_metadata(folder / "teacher.parquet").num_row_groups == 4


def test_one_table_serves_selected_and_weighted_traces(root: Path, tmp_path: Path) -> None:
    chosen = MadeSelection(("t3", "t40", "t59"))
    some = TraceData.open(
        built(training(root / "student", MadeScores(uniform=False), selection=chosen), tmp_path)
    )
    whole = TraceData.open(root / "plain")
    packed = {
        name: PackedTraces(data, 1, 1, 0, TeacherTable.open(root / "table", data))
        for name, data in (("some", some), ("whole", whole))
    }
    one, all_of_them = packed["some"], packed["whole"]
    ids, _, labels, weights, tokens, log_probs = one.tensors(np.arange(one.n_sequences))
    assert tokens.shape == (*ids.shape, TOP_K) and log_probs.shape == (*ids.shape, TOP_K + 1)
    assert (weights[labels != -100] != 1).any()
    np.testing.assert_allclose(log_probs[labels != -100].exp().sum(1), 1.0, atol=1e-6)
    # The same traces among all others have the same rows beside the same labels.
    found = {}
    for name, batch in packed.items():
        _, _, labels, _, tokens, _ = batch.tensors(np.arange(batch.n_sequences))
        rows = zip(labels[labels != -100].tolist(), tokens[labels != -100].tolist(), strict=True)
        found[name] = sorted((label, tuple(row)) for label, row in rows)
    assert set(found["some"]) <= set(found["whole"]) and len(found["some"]) < len(found["whole"])
    assert all_of_them.n_sequences > one.n_sequences


def test_traces_that_the_teacher_was_not_asked_about_are_refused(root: Path, tmp_path: Path) -> None:
    few = training(root / "student", selection=MadeSelection(("t1", "t2")))
    table = built(taught(root / "teacher", few), tmp_path)
    with pytest.raises(UserError, match="not asked about trace 't0'"):
        TeacherTable.open(table, TraceData.open(root / "plain"))


def test_other_tokens_of_the_same_trace_are_refused(root: Path, tmp_path: Path) -> None:
    other = built(replace(training(root / "student"), traces=OtherTraces()), tmp_path)
    with pytest.raises(UserError, match="other tokens of trace 't0'"):
        TeacherTable.open(root / "table", TraceData.open(other))


def test_a_teacher_that_cannot_teach_these_tokens_is_refused(root: Path, tmp_path: Path) -> None:
    data = TraceData.open(root / "plain")
    foreign = teacher_folder(tmp_path / "foreign")
    tokenizer = load_tokenizer(foreign)
    tokenizer.add_tokens(["two"])
    tokenizer.save_pretrained(foreign)
    short = random_folder(tmp_path / "short", context=int(data.lengths.max()) - 1)
    for folder, top_k, match in (
        (foreign, TOP_K, "another vocabulary"),
        (short, TOP_K, "longest trace"),
        (root / "teacher", 0, "top_k is 0"),
        (root / "teacher", VOCABULARY, "top_k is"),
    ):
        with pytest.raises(UserError, match=match):
            Teacher(folder, data, top_k, "float32", Machine())


def test_the_stage_is_refused_whole(root: Path, tmp_path: Path) -> None:
    stage = CacheTeacher(Files.of(root / "teacher"), training(root / "student"), VOCABULARY)
    with pytest.raises(UserError, match="top_k"):
        Plan(Store(tmp_path), [stage]).run(Machine())
    assert Store(tmp_path).find(stage) is None
