"""Continued pretraining: what its arms share, what replay changes, and what its table is made of."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from airlab.cli.experiment import open_experiment, target_fingerprints
from airlab.cli.main import configs_folder
from airlab.errors import UserError
from airlab.reporting.tables import IncompleteTable
from airlab.stages.continue_pretraining import ContinuePretraining
from airlab.stages.prepare_model import PrepareModel
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.store import Store
from experiments.attention_influence import continued, replayed

EXPERIMENTS = [continued, replayed]


@pytest.fixture(scope="module")
def opened() -> Iterator[Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):

        def call(module: Any, *overrides: str) -> Any:
            name = module.__name__.removeprefix("experiments.").replace(".", "/")
            return open_experiment(compose("run", [f"experiment={name}", *overrides]))[1]

        yield call


def trained(config: continued.Continuation) -> dict[str, ContinuePretraining]:
    """Every cell's checkpoint, by its name."""
    found = {cell.name: cell.evaluation.checkpoint for cell in continued.cells(config)}
    assert all(isinstance(stage, ContinuePretraining) for stage in found.values())
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("scale", ["smoke", "laptop", "h100"])
def test_every_arm_that_the_plan_names_is_trained(opened: Any, scale: str) -> None:
    lines = (continued.__doc__ or "").splitlines()
    bullets = [line.partition(":")[0] for line in lines if line.startswith("- `")]
    arms = {name for line in bullets for name in line.split("`")[1::2]}
    for module in EXPERIMENTS:
        found = {name.partition("/")[0] for name in module.targets(opened(module, f"scale={scale}"))}
        assert found == {"base", "full_pool", "random", *arms}


@pytest.mark.parametrize("module", EXPERIMENTS)
def test_all_arms_differ_in_nothing_but_their_selection(opened: Any, module: Any) -> None:
    config = opened(module, "scale=h100")
    stages = trained(config)
    assert len(stages) == 11 * 3
    assert {(s.training, fingerprint(s.model)) for s in stages.values()} == {
        (config.training, fingerprint(PrepareModel(config.model)))
    }
    assert {(s.mixture.budget_tokens, s.mixture.context) for s in stages.values()} == {(20_971_520, 1024)}
    assert len({fingerprint(s.mixture.tokenized) for s in stages.values()}) == 1
    assert all(s.mixture.tokenized.tokenizer == s.model for s in stages.values())


def test_replay_changes_the_mixture_of_what_is_selected_and_nothing_else(opened: Any) -> None:
    without, with_replay = (opened(module, "scale=h100") for module in EXPERIMENTS)
    before, after = (target_fingerprints(continued, config) for config in (without, with_replay))
    assert before.keys() == after.keys()
    same = {name for name in before if before[name] == after[name]}
    assert {name.partition("/")[0] for name in same} == {"base", "full_pool"} and len(same) == 4
    for name, stage in trained(without).items():
        other = trained(with_replay)[name]
        spec = "upsample" if stage.mixture.selection is None else "subset_only"
        assert stage.mixture.spec.kind == spec and other.mixture.spec.kind == "upsample"
        assert replace(other, mixture=replace(other.mixture, spec=stage.mixture.spec)) == stage


def test_the_pool_is_measured_under_two_masks(opened: Any) -> None:
    config = opened(continued, "scale=h100")
    order = Plan(Store(Path("nowhere")), list(continued.targets(config).values())).order
    names = [stage.name for stage in order]
    assert names.count("measure_losses") == 2 and names.count("tokenize_corpus") == 1


def test_the_base_is_evaluated_once_and_stands_beside_every_seed(opened: Any, tmp_path: Path) -> None:
    config = opened(continued, "scale=h100")
    assert [name for name in continued.targets(config) if name.startswith("base")] == ["base/seed-0"]
    assert continued.table_spec(config).rows[0].variant == "base"
    with pytest.raises(IncompleteTable, match=r"base x .* x seed 0, 1, 2; .*full_pool x"):
        continued.find(config, Store(tmp_path / "store"))


def test_a_model_in_a_folder_of_ones_own_is_refused(opened: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    config = opened(continued, "scale=smoke", "model=local", f"model.path={tmp_path}")
    with pytest.raises(UserError, match=r"trained further comes from a package, a hub or a GGUF file"):
        continued.cells(config)
