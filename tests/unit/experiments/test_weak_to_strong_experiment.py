"""Weak to strong: four tables that share what can be shared, and differ in what their plans say."""

from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from airlab.cli.experiment import open_experiment, target_fingerprints
from airlab.cli.main import configs_folder
from experiments.attention_influence import (
    ablations,
    continued,
    selector_size,
    weak_to_strong,
    weak_to_strong_360m,
    weak_to_strong_arms,
    weak_to_strong_selectors,
)

TABLES = (weak_to_strong, weak_to_strong_arms, weak_to_strong_360m)


@pytest.fixture(scope="module")
def opened() -> Iterator[Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):

        def call(module: Any, scale: str = "h100") -> Any:
            name = module.__name__.removeprefix("experiments.").replace(".", "/")
            return open_experiment(compose("run", [f"experiment={name}", f"scale={scale}"]))[1]

        yield call


def test_sizes_budgets_and_seeds_are_those_of_the_plan(opened: Any) -> None:
    found = {}
    for module in TABLES:
        config = opened(module)
        parameters = config.target.n_parameters(49_152)
        found[module] = (round(parameters / 1e6), config.training.budget_tokens, config.seeds)
    three = (0, 1, 2)
    assert found[weak_to_strong] == (123, 314_572_800, three)
    assert found[weak_to_strong_arms] == (123, 314_572_800, (0,))
    assert found[weak_to_strong_360m] == (362, 209_715_200, three)


def test_the_first_seeds_cells_are_trained_once_for_both_tables(opened: Any) -> None:
    whole, arms = (target_fingerprints(m, opened(m)) for m in (weak_to_strong, weak_to_strong_arms))
    shared = {name for name in whole.keys() & arms.keys() if whole[name] == arms[name]}
    assert shared == {"full_pool/seed-0", "random/seed-0", "attention_influence/seed-0"}
    assert len(whole) == 9 and len(arms) == 10


def test_a_smaller_selector_adds_its_own_three_cells_and_no_more(opened: Any) -> None:
    whole = target_fingerprints(weak_to_strong, opened(weak_to_strong))
    pairs = target_fingerprints(weak_to_strong_selectors, opened(weak_to_strong_selectors))
    assert {pairs.pop(f"default/{name}") for name in whole} == set(whole.values())
    assert set(pairs) == {f"small-selector/attention_influence/seed-{seed}" for seed in range(3)}
    variant = ablations.setting(opened(weak_to_strong_selectors), "small-selector")
    small = weak_to_strong.losses_stage(variant).model
    assert small.model.n_parameters(8_192) < opened(weak_to_strong).target.n_parameters(49_152) / 3


@pytest.mark.parametrize("module", [selector_size, weak_to_strong_selectors])
@pytest.mark.parametrize("scale", ["h100", "paper"])
def test_the_smaller_selectors_probes_and_windows_fit_its_context(
    opened: Any, module: Any, scale: str
) -> None:
    variant = ablations.setting(opened(module, scale), "small-selector")
    context = weak_to_strong.losses_stage(variant).model.model.context
    assert variant.probes.max_tokens <= context and variant.scoring.window_tokens <= context


def test_every_arm_that_the_plan_names_is_trained_and_measured_as_in_continued_pretraining(
    opened: Any,
) -> None:
    lines = [line for line in (weak_to_strong_arms.__doc__ or "").splitlines() if line.startswith("- `")]
    named = {name for line in lines for name in line.partition(":")[0].split("`")[1::2]}
    config, other = opened(weak_to_strong_arms), opened(continued)
    assert {cell.variant for cell in weak_to_strong_arms.cells(config)} == {"full_pool", "random", *named}
    assert weak_to_strong.losses_stage(config) == continued.losses_stage(other)
    assert config.selectors.items() <= other.selectors.items()
