"""Training a model further: it begins as the model is, resumes as it, and refuses what it cannot train."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.schema.mixture import MixtureSpec
from airlab.schema.training import Training
from airlab.stages.build_mixture import BuildMixture, TokenizeCorpus
from airlab.stages.continue_pretraining import ContinuePretraining
from airlab.stages.pretrain import Pretrain
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.store import Store
from airlab.training.continued import continued_target
from tests.unit.training.test_training_stages import QUICK, TINY, FirstTen, SmallCorpus, arms

CALM = QUICK.model_copy(update={"learning_rate": 1e-3, "budget_tokens": 32 * 4 * 10})


def further(training: Training = CALM) -> tuple[Pretrain, ContinuePretraining]:
    """A target of the full pool, and its training on the first ten documents alone."""
    began, _ = arms()
    tokenized = TokenizeCorpus(SmallCorpus(), began)
    spec = MixtureSpec(kind="subset_only")
    mixture = BuildMixture(tokenized, FirstTen(), spec, training.budget_tokens, TINY.context, seed=3)
    return began, ContinuePretraining(began, mixture, training)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = Store(tmp_path_factory.mktemp("store"))
    Plan(made, [further()[1]]).run(Machine())
    return made


def weights(store: Store, stage: Pretrain | ContinuePretraining) -> dict[str, torch.Tensor]:
    folder = store.find(stage)
    assert folder is not None
    loaded: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return loaded


def test_it_begins_where_the_model_is_and_ends_elsewhere(store: Store) -> None:
    began, ended = (store.find(stage) for stage in further())
    assert began is not None and ended is not None
    first = json.loads((ended / "curves.jsonl").read_text().splitlines()[0])["loss"]
    last = json.loads((began / "curves.jsonl").read_text().splitlines()[-1])["loss"]
    untrained = json.loads((began / "curves.jsonl").read_text().splitlines()[0])["loss"]
    assert abs(first - last) < 0.3 * (untrained - last), "the model's loss, not that of fresh weights"
    before, after = (weights(store, stage) for stage in further())
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_a_rate_of_next_to_nothing_leaves_the_model_as_it_was(tmp_path: Path, store: Store) -> None:
    began, still = further(CALM.model_copy(update={"learning_rate": 1e-12, "weight_decay": 0.0}))
    Plan(store, [still]).run(Machine())
    before, after = weights(store, began), weights(store, still)
    for name in before:
        torch.testing.assert_close(after[name], before[name], atol=1e-7, rtol=0)


def test_others_can_load_it_with_the_models_own_tokenizer_and_context(store: Store) -> None:
    began, ended = (store.find(stage) for stage in further())
    assert began is not None and ended is not None
    loaded = AutoModelForCausalLM.from_pretrained(ended)
    assert loaded.config.max_position_embeddings == TINY.context
    assert (ended / "tokenizer.json").read_text() == (began / "tokenizer.json").read_text()


def test_model_mixture_and_recipe_are_its_identity() -> None:
    _, one = further()
    assert one.seed == 3
    _, other = further(CALM.model_copy(update={"learning_rate": 2e-3}))
    assert fingerprint(one) != fingerprint(other)


def test_a_context_longer_than_the_models_is_refused(store: Store) -> None:
    folder = store.find(further()[0])
    assert folder is not None
    with pytest.raises(UserError, match=r"sequences have 64 tokens and the model a context of 32"):
        continued_target(folder, 64)


def test_another_architecture_is_refused(tmp_path: Path, store: Store) -> None:
    tokenizer = store.find(further()[0])
    assert tokenizer is not None
    config = GPT2Config(vocab_size=280, n_embd=8, n_layer=1, n_head=1, n_positions=32)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tokenizer / name).read_bytes())
    with pytest.raises(UserError, match=r"GPT2LMHeadModel cannot be pretrained further"):
        continued_target(tmp_path, 16)
