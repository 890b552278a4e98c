"""The controls: what their plan shares, what their audit is of, and that nothing is shown without it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from airlab.cli.experiment import open_experiment, target_fingerprints
from airlab.cli.main import configs_folder
from airlab.errors import UserError
from airlab.reporting.audit import AUDIT
from airlab.reporting.tables import IncompleteTable
from airlab.selection.needs import ClassifierScores, LossesOf
from airlab.stages.sample_target import ITEMS, SampleTask
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.store import Store
from experiments.attention_influence import controls
from tests.unit.selection.made_units import configured

NAME = "attention_influence/controls"
HUB = (ClassifierScores, LossesOf)
PASSES = 5
"""Retrieval heads, two draws of random heads, zeroed retrieval heads; and the halves of documents."""


@pytest.fixture(scope="module")
def opened() -> Iterator[Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        yield lambda *overrides: open_experiment(compose("run", [f"experiment={NAME}", *overrides]))[1]


def names(config: controls.Config) -> list[str]:
    targets = list(controls.targets(config).values())
    return [stage.name for stage in Plan(Store(Path("nowhere")), targets).order]


@pytest.mark.parametrize("scale", ["smoke", "laptop"])
def test_every_arm_that_the_plan_names_is_trained(opened: Any, scale: str) -> None:
    written = controls.__doc__ or ""
    arms = {line.split("`")[1] for line in written.splitlines() if line.startswith("- `")}
    config = opened(f"scale={scale}")
    assert {cell.variant for cell in controls.cells(config)} == {"full_pool", "random", *arms}
    assert len(arms) == 8 and "all nine arms compared" in " ".join(written.split())


@pytest.mark.parametrize("more", [(), ("seeds=[0,1,2,3]",), ("+selector@selectors.entropy_too=entropy",)])
def test_the_audit_is_planned_once_and_shares_what_the_arms_need(opened: Any, more: tuple[str, ...]) -> None:
    planned = names(opened(*more))
    for once in ("audit_selectors", "measure_text", "build_pool", "detect_heads", "prepare_model"):
        assert planned.count(once) == 1, once
    assert planned.count("measure_losses") == PASSES


def test_another_draw_of_heads_is_one_pass_more(opened: Any) -> None:
    config = opened("+selector@selectors.random_heads_2=random_heads", "selectors.random_heads_2.draw=2")
    assert names(config).count("measure_losses") == PASSES + 1


def test_the_audit_is_of_the_scores_that_the_first_seeds_targets_are_trained_on(opened: Any) -> None:
    config = opened()
    audit = controls.audit_stage(config)
    audited = {name: fingerprint(stage) for name, stage in zip(audit.names, audit.scores, strict=True)}
    for cell in controls.cells(config):
        selection = cell.evaluation.checkpoint.mixture.selection  # type: ignore[attr-defined]
        if selection is not None and cell.seed == config.seeds[0]:
            assert fingerprint(selection.scores) == audited.pop(cell.variant)
    assert set(audited) == set(config.audited)


def test_the_audit_is_locked_beside_the_cells(opened: Any) -> None:
    config, other = opened(), opened("audit_resamples=301")
    before, after = (target_fingerprints(controls, c) for c in (config, other))
    assert set(before) == {AUDIT, *(cell.name for cell in controls.cells(config))}
    assert {name for name in before if before[name] != after[name]} == {AUDIT}


def test_what_is_only_audited_moves_no_target(opened: Any) -> None:
    before, after = (
        target_fingerprints(controls, opened(*more)) for more in ((), ("audited.loss_band.centre=0.3",))
    )
    assert {name for name in before if before[name] != after[name]} == {AUDIT}


def test_every_selector_for_documents_is_audited_or_named_as_needing_a_hub(opened: Any) -> None:
    config, of_traces = opened(), {"curated"}
    later = {
        "influence_excess",
        "influence_novel",
        "coverage",
    }  # made after the audit was published; `improved` and `coverage` train on them
    needing = {name for name, s in configured().items() if any(isinstance(n, HUB) for n in s.needs())}
    assert needing == set(controls.NEED_A_HUB)
    kinds = {s.model_dump_json() for s in (*config.selectors.values(), *config.audited.values())}
    missing = {name for name, s in configured().items() if s.model_dump_json() not in kinds}
    assert missing - of_traces - later == needing


def test_the_page_says_what_each_dsir_goes_towards(opened: Any) -> None:
    goals = "Targets of DSIR: dsir, the domain prose; dsir task, the task reasoning_worked."
    assert goals in controls._notes(opened())
    law = controls._notes(opened("audited.dsir.towards_domain=law"))
    assert any(note.startswith("Targets of DSIR: dsir, the domain law; ") for note in law)


def test_the_page_names_what_needs_a_hub_unless_it_is_audited(opened: Any) -> None:
    assert controls._notes(opened())[-1] == "Not audited, since they need a hub: fineweb edu, two model gap."
    more = opened("+selector@audited.fineweb_edu=fineweb_edu")
    assert controls._notes(more)[-1] == "Not audited, since they need a hub: two model gap."


@pytest.mark.parametrize("scale", ["smoke", "laptop", "h100"])
def test_dsir_goes_towards_the_evaluations_own_task_made_of_the_pool(opened: Any, scale: str) -> None:
    config = opened(f"scale={scale}")
    audit = controls.audit_stage(config)
    stage = dict(zip(audit.names, audit.scores, strict=True))["dsir_task"]
    (sample,) = stage.measurements  # type: ignore[attr-defined]
    (task,) = (task for task in config.evaluation.tasks if task.kind == "reasoning")
    assert sample == SampleTask(
        audit.losses.corpus, task.model_copy(update={"items": ITEMS}), "reasoning_worked"
    )  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="evaluation has no task 'reasoning_worked'"):
        controls.targets(opened("evaluation=paper"))


def test_the_laptop_pool_and_budget_are_the_controls_own_with_that_pool_only(opened: Any) -> None:
    laptop, smoke = opened("scale=laptop"), opened("scale=smoke")
    assert sum(laptop.corpus.pool.bytes_per_domain.values()) == 286_000
    assert laptop.training.budget_tokens == 122_880 and len(laptop.seeds) == 3
    assert sum(smoke.corpus.pool.bytes_per_domain.values()) == 66_000
    assert opened("scale=laptop", "training.budget_tokens=2048").training.budget_tokens == 2048
    assert opened("scale=laptop", "corpus=pool").training.budget_tokens == 294_912


def test_a_corpus_of_ones_own_is_taken_as_it_is(opened: Any, tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").write_text('{"text": "x y"}\n')
    config = opened("scale=laptop", "corpus=local", f"corpus.path={tmp_path / 'docs.jsonl'}")
    assert config.corpus.kind == "local"


def test_a_table_without_its_audit_is_refused(
    opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controls, "tabulate", lambda config, store, *, partial: "the table")
    store = Store(tmp_path / "store")
    with pytest.raises(IncompleteTable, match="confound audit"):
        controls.find(opened("scale=smoke"), store)
    found = controls.find(opened("scale=smoke"), store, partial=True)
    assert (found.table, found.pages) == ("the table", ())


def test_targets_without_results_are_refused(opened: Any, tmp_path: Path) -> None:
    with pytest.raises(IncompleteTable, match="random_heads x "):
        controls.find(opened("scale=smoke"), Store(tmp_path / "store"))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("~selectors.attention_influence", "selectors must have attention_influence"),
        ("+selector@audited.random_heads=random_heads", "leave random_heads out of audited"),
    ],
)
def test_an_audit_that_makes_no_sense_is_refused(opened: Any, override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        opened(override)
