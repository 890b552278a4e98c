"""From a corpus to checkpoints through the store: what arms share, and what other tools find."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.schema.mixture import MixtureSpec
from airlab.schema.training import TargetModel, Training
from airlab.selection.mixture import Mixture
from airlab.stages.build_mixture import BuildMixture, TokenizeCorpus
from airlab.stages.pretrain import Pretrain
from airlab.stages.train_tokenizer import TrainTokenizer
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store
from airlab.training.packing import PackedSequences

WORDS = ["the", "cat", "dog", "sat", "ran", "on", "under", "mat", "log", "and", "then", "slept", "1", "2"]
TINY = TargetModel(
    vocabulary=280,
    hidden_size=32,
    layers=2,
    heads=2,
    kv_heads=1,
    intermediate_size=64,
    context=32,
    tie_embeddings=True,
)
QUICK = Training(budget_tokens=32 * 4 * 40 + 100, batch_sequences=4, learning_rate=1e-2, warmup_fraction=0.1)


@dataclass(frozen=True)
class SmallCorpus(Stage):
    VERSION: ClassVar[int] = 1

    def run(self, work: Workdir, machine: Machine) -> None:
        draw = np.random.default_rng(0)
        texts = [" ".join(draw.choice(WORDS, size=draw.integers(3, 40))) for _ in range(60)]
        rows = {"unit_id": [f"d{n}" for n in range(60)], "domain": ["a", "b"] * 30, "text": texts}
        pq.write_table(pa.table(rows), work.path("documents.parquet"), row_group_size=256)


@dataclass(frozen=True)
class FirstTen(Stage):
    VERSION: ClassVar[int] = 1

    def run(self, work: Workdir, machine: Machine) -> None:
        pq.write_table(pa.table({"unit_id": [f"d{n}" for n in range(10)]}), work.path("selection.parquet"))


def arms() -> tuple[Pretrain, Pretrain]:
    corpus = SmallCorpus()
    tokenizer = TrainTokenizer(corpus, TINY.vocabulary)
    tokenized = TokenizeCorpus(corpus, tokenizer)
    baseline, selected = (
        Pretrain(
            BuildMixture(tokenized, selection, MixtureSpec(), QUICK.budget_tokens, TINY.context, 0),
            tokenizer,
            TINY,
            QUICK,
            0,
        )
        for selection in (None, FirstTen())
    )
    return baseline, selected


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = Store(tmp_path_factory.mktemp("store"))
    Plan(made, arms()).run(Machine(sequences_per_micro_batch=4))
    return made


def curves(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "curves.jsonl").read_text().splitlines()]


def test_arms_train_on_equal_tokens_and_learn(store: Store) -> None:
    for arm in arms():
        rows = curves(store.folder(arm))
        assert [row["step"] for row in rows] == list(range(40))
        assert rows[-1]["tokens"] == 32 * 4 * 40
        assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]


def test_checkpoint_loads_like_any_model_and_has_the_trained_loss(store: Store) -> None:
    arm = arms()[0]
    folder = store.folder(arm)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.tie_word_embeddings and tokenizer.eos_token_id == model.config.eos_token_id
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    batch = PackedSequences(Mixture.open(store.folder(arm.mixture))).batch(np.arange(4))
    with torch.no_grad():
        logits = model(batch.input_ids, position_ids=batch.position_ids, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten()).item()
    assert loss == pytest.approx(curves(folder)[-1]["loss"], rel=0.15)
    assert not list(folder.glob("resume*"))


def test_mixture_of_another_context_is_refused(store: Store) -> None:
    arm = arms()[0]
    longer = TINY.model_copy(update={"context": 64})
    other = Pretrain(arm.mixture, arm.tokenizer, longer, QUICK, 0)
    with pytest.raises(UserError, match="context of 64"):
        Plan(store, [other]).run(Machine())


def test_loss_that_is_not_finite_stops_the_run(store: Store) -> None:
    arm = arms()[0]
    wild = QUICK.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(UserError, match="lower the learning rate"):
        Plan(store, [Pretrain(arm.mixture, arm.tokenizer, TINY, wild, 0)]).run(Machine())


def test_budget_below_one_batch_is_refused(store: Store) -> None:
    arm = arms()[0]
    huge = QUICK.model_copy(update={"batch_sequences": 1000})
    with pytest.raises(UserError, match="raise the token budget"):
        Plan(store, [Pretrain(arm.mixture, arm.tokenizer, TINY, huge, 0)]).run(Machine())
