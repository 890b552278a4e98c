"""A selector of our own through the command line: trained on the corpus, refused where it has no heads."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from airlab.cli.bind import bind, to_plain
from airlab.cli.experiment import open_experiment
from airlab.cli.heads import HeadsCommand
from airlab.cli.main import configs_folder
from airlab.errors import UserError
from airlab.stages.inputs import model_input
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.store import Store
from experiments.attention_influence import main
from tests.unit.cli.conftest import WORDS, Airlab, write_jsonl

TINY = [
    f"model.{key}={value}"
    for key, value in {
        "shape.vocabulary": 400, "shape.hidden_size": 16, "shape.layers": 2, "shape.heads": 2,
        "shape.kv_heads": 1, "shape.intermediate_size": 32, "shape.context": 640,
        "training.budget_tokens": 2560,
    }.items()
]  # fmt: skip
"""Four updates of a model that has learned nothing."""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Documents of natural sentences of a few words each."""
    draw = np.random.default_rng(0)
    rows = [
        {"id": f"d{n}", "text": " ".join(f"The {' '.join(draw.choice(WORDS, 5))}." for _ in range(6))}
        for n in range(20)
    ]
    return write_jsonl(tmp_path / "corpus.jsonl", rows)


def test_heads_of_a_model_that_learned_nothing_are_refused_in_one_sentence(
    airlab: Airlab, corpus: Path
) -> None:
    told = airlab(
        "heads", "model=trained", *TINY, "corpus=local", f"corpus.path={corpus}",
        "probes.count=6", "probes.max_tokens=640", "output=heads.json",
    )  # fmt: skip
    assert told.code == 2
    last = told.err.splitlines()[-1]
    assert "no head of this model copies above chance" in last and "use a stronger model" in last
    assert not Path("heads.json").exists()


def test_scoring_through_a_trained_model_works_with_heads_of_ones_own(
    airlab: Airlab, corpus: Path, heads: Path
) -> None:
    heads.write_text("[[0, 1], [1, 0]]")
    named = ["+corpus@model.corpus=local", f"model.corpus.path={corpus}"]
    told = airlab(
        "score", "model=trained", *TINY, *named, f"heads={heads}", f"input={corpus}",
        "scoring.window_tokens=640", "output=scores.parquet",
    )  # fmt: skip
    assert told.code == 0, told.err
    table = pq.read_table("scores.parquet")
    assert table.num_rows == 20
    influence = table["attention_influence"].to_numpy()
    assert np.isfinite(influence).all() and (influence != 0).all()
    # Four updates: hardly better than a guess among 400 tokens.
    assert table["loss_base"].to_numpy() == pytest.approx(np.log(400), abs=0.5)


def test_a_command_without_a_corpus_asks_for_one(airlab: Airlab, corpus: Path, heads: Path) -> None:
    told = airlab("score", "model=trained", f"heads={heads}", f"input={corpus}", "output=s.parquet")
    assert told.code == 2
    assert "needs a corpus to be pretrained on" in told.sentence
    assert "+corpus@model.corpus=" in told.sentence


@pytest.fixture(scope="module")
def composed() -> Iterator[Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        yield compose


def test_the_selector_is_trained_on_the_experiments_own_corpus(composed: Any) -> None:
    for scale in ("smoke", "laptop"):
        config = open_experiment(composed("run", [f"scale={scale}", "model=trained"]))[1]
        order = Plan(Store(Path("nowhere")), [main.losses_stage(config)]).order
        assert [stage.name for stage in order].count("build_pool") == 1
        assert {"pretrain", "detect_heads"} <= {stage.name for stage in order}


def test_a_selector_of_a_targets_shape_and_recipe_is_the_full_pool_target(composed: Any) -> None:
    plain = composed("run", ["scale=smoke"])
    same = [
        *(f"model.shape.{key}={json.dumps(value)}" for key, value in plain.target.items()),
        *(f"model.training.{key}={json.dumps(value)}" for key, value in plain.training.items()),
    ]
    config = open_experiment(composed("run", ["scale=smoke", "model=trained", *same]))[1]
    full_pool = main.cells(config)[0].evaluation.checkpoint
    assert fingerprint(model_input(config.model)) == fingerprint(full_pool)  # type: ignore[arg-type]


def test_seed_and_corpus_are_the_models_own(composed: Any) -> None:
    def stage(*more: str) -> str:
        plain = to_plain(composed("heads", ["model=trained", "corpus=pool-smoke", "output=o.json", *more]))
        return fingerprint(model_input(bind(HeadsCommand, plain).model))  # type: ignore[arg-type]

    prints = [stage(), stage("model.seed=1"), stage("corpus.pool.seed=1"), stage("model.shape.layers=2")]
    assert len(set(prints)) == 4
    assert stage("probes.seed=1", "machine=gpu1") == prints[0]


def test_a_selector_cannot_borrow_its_own_vocabulary(composed: Any) -> None:
    with pytest.raises(UserError, match="vocabulary of its own"):
        open_experiment(composed("run", ["model=trained", "model.shape.vocabulary=selector"]))
