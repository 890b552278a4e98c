"""Improved selectors: what is developed on and what confirms share nothing that could carry a choice over."""

from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from airlab.cli.experiment import open_experiment
from airlab.cli.main import configs_folder
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.store import Store
from experiments.attention_influence import (
    continued,
    coverage,
    coverage_scratch,
    development,
    improved,
    improved_scratch,
)

H100 = "scale=h100"


@pytest.fixture(scope="module")
def opened() -> Iterator[Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):

        def call(module: Any, *overrides: str) -> Any:
            name = module.__name__.removeprefix("experiments.").replace(".", "/")
            return open_experiment(compose("run", [f"experiment={name}", *overrides]))[1]

        yield call


def named(module: Any) -> set[str]:
    """The arms in the list of a module's docstring."""
    lines = [line for line in (module.__doc__ or "").splitlines() if line.startswith("- `")]
    return {name for line in lines for name in line.partition(":")[0].split("`")[1::2]}


@pytest.mark.parametrize("module", [development, improved, improved_scratch, coverage, coverage_scratch])
def test_what_is_asked_about_is_among_the_arms(module: Any, opened: Any) -> None:
    config = opened(module, H100)
    assert set(config.ASKED) <= {cell.variant for cell in module.cells(config)}


@pytest.mark.parametrize("module", [development, improved, improved_scratch, coverage, coverage_scratch])
def test_every_arm_that_a_plan_names_is_trained(opened: Any, module: Any) -> None:
    of_other_size = {improved_scratch: improved, coverage_scratch: coverage}
    arms = named(of_other_size.get(module, module)) | named(module)
    found = {cell.variant for cell in module.cells(opened(module, H100))}
    assert found == {"full_pool", "random", *arms}


def test_no_seed_is_used_by_two_of_what_chooses_what_confirms_and_what_came_before(opened: Any) -> None:
    seeds = [opened(module, H100).seeds for module in (continued, development, improved, coverage)]
    assert len(set().union(*seeds)) == sum(map(len, seeds))
    assert opened(improved_scratch, H100).seeds == opened(improved, H100).seeds
    assert opened(coverage_scratch, H100).seeds == opened(coverage, H100).seeds
    assert [len(one) >= 3 for one in seeds] == [True, False, True, True]


def test_development_never_looks_at_reference_text(opened: Any) -> None:
    def columns(module: Any) -> set[str]:
        return {task.name for task in opened(module, H100).evaluation.planned()}

    kept = columns(improved) - columns(development)
    assert kept == {"bits_per_byte_reference", "title"}
    assert columns(development) < columns(improved) == columns(improved_scratch)
    for task in opened(development, H100).evaluation.tasks:
        assert "reference" not in (*getattr(task, "domains", ()), getattr(task, "domain", ""))


def test_what_is_measured_of_the_pool_is_shared_by_all(opened: Any, tmp_path: Any) -> None:
    found = []
    for module in (continued, development, improved, improved_scratch):
        targets = list(module.targets(opened(module, H100)).values())
        order = Plan(Store(tmp_path / "store"), targets).order
        found.append({fingerprint(stage) for stage in order if stage.name == "measure_losses"})
    assert len(found[0]) == 2 and all(one == found[0] for one in found)


def test_the_candidates_take_out_the_draw_that_breaks_nothing(opened: Any) -> None:
    for module in (development, improved, improved_scratch):
        config = opened(module, H100)
        assert config.selectors["random_heads"].draw == 1
        assert config.selectors["influence_excess"].others == "random_heads"
