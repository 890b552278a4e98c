"""The selection report: which selectors are in it, what it costs, and that no page is made of holes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from airlab.cli.experiment import open_experiment
from airlab.cli.main import configs_folder
from airlab.errors import UserError
from airlab.reporting.tables import IncompleteTable
from airlab.selection.needs import ClassifierScores, CuratedOrder, HalfLosses, LossesOf
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.store import Store
from experiments.attention_influence import continued, selection
from tests.unit.selection.made_units import configured

LEFT_OUT = (ClassifierScores, LossesOf, HalfLosses, CuratedOrder)
"""What takes a hub, a pass of its own, or traces."""


@pytest.fixture(scope="module")
def opened() -> Iterator[Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):

        def call(name: str, *overrides: str) -> Any:
            return open_experiment(compose("run", [f"experiment=attention_influence/{name}", *overrides]))[1]

        yield call


def test_every_selector_that_takes_no_pass_of_its_own_is_in_it(opened: Any) -> None:
    config = opened("selection")
    expected = {
        name
        for name, selector in configured().items()
        if not any(isinstance(need, LEFT_OUT) for need in selector.needs()) and name != "zero_mask"
    }
    later = {"coverage"}  # made after the report was published; the experiment of that name trains on it
    # Which of all sums is for an experiment to say.
    assert set(config.selectors) == expected - {"rank_sum"} - later
    assert config.selectors["random_heads"].draw == 1


def test_it_costs_no_pass_that_continued_pretraining_does_not_need(opened: Any, tmp_path: Path) -> None:
    def passes(module: Any, name: str) -> set[str]:
        targets = list(module.targets(opened(name, "scale=h100")).values())
        order = Plan(Store(tmp_path / "store"), targets).order
        return {fingerprint(stage) for stage in order if stage.name in ("measure_losses", "detect_heads")}

    assert passes(selection, "selection") == passes(continued, "continued")


def test_nothing_is_trained_and_everything_is_locked(opened: Any) -> None:
    config = opened("selection", "scale=h100")
    targets = selection.targets(config)
    assert set(targets) == {"losses", "audit", *(f"selection/{name}" for name in config.selectors)}
    order = Plan(Store(Path("nowhere")), list(targets.values())).order
    assert not {"pretrain", "continue_pretraining", "evaluate"} & {stage.name for stage in order}


def test_the_page_is_refused_until_the_audit_is_there(opened: Any, tmp_path: Path) -> None:
    config, store = opened("selection", "scale=smoke"), Store(tmp_path / "store")
    with pytest.raises(IncompleteTable, match="confound audit"):
        selection.find(config, store)
    assert selection.find(config, store, partial=True).names == ()
    assert selection.selections(config, store) == {}


def test_a_report_without_the_method_is_refused(opened: Any) -> None:
    with pytest.raises(UserError, match="selectors must have attention_influence"):
        opened("selection", "~selectors.attention_influence")
