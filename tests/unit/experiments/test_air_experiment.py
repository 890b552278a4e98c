"""AIR's comparison: what its arms share, what each differs in, and what its table is made of."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from airlab.cli.experiment import open_experiment, target_fingerprints
from airlab.cli.main import configs_folder
from airlab.cli.overrides import prepare
from airlab.errors import UserError
from airlab.evaluation.records import Record, write_records
from airlab.reporting.tables import IncompleteTable
from airlab.stages.evaluate import Evaluate
from airlab.stages.fine_tune import FineTune
from airlab.stages.measure_steps import MeasureSteps
from airlab.stages.select_units import SelectUnits
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.stage import Stage
from airlab.store.store import Store
from experiments.air import main as air
from experiments.attention_influence import main as attention_influence
from experiments.base import Cell


@pytest.fixture(scope="module")
def opened() -> Iterator[Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        yield lambda *more, name="air/main": open_experiment(compose("run", [f"experiment={name}", *more]))[1]


def stages(*targets: Stage) -> list[Any]:
    return list(Plan(Store(Path("nowhere")), list(targets)).order)


def tuned(config: air.Config) -> dict[str, FineTune]:
    """Every run's checkpoint, by its name."""
    found = {run.name: run.evaluation.checkpoint for run in air.runs(config)}
    return {name: stage for name, stage in found.items() if isinstance(stage, FineTune)}


def selection(checkpoint: FineTune) -> SelectUnits | None:
    return checkpoint.data.selection  # type: ignore[attr-defined, no-any-return]


def test_the_papers_name_is_enough() -> None:
    assert prepare(["experiment=air"], configs_folder()) == ["experiment=air/main"]


def test_the_plan_names_every_arm_and_no_other(opened: Any) -> None:
    written = (air.__doc__ or "").split("For the method")[0]
    listed = " ".join(re.findall(r"^(?:- |  ).*$", written, flags=re.MULTILINE))
    named = set(re.findall(r"`(\w+)`", listed))
    assert named == {air.BASE, *opened("scale=h100").all_arms()}


@pytest.mark.parametrize("scale", ["smoke", "laptop", "h100"])
def test_all_arms_but_base_and_full_data_train_on_the_same_budget_with_one_recipe(
    opened: Any, scale: str
) -> None:
    config = opened(f"scale={scale}")
    for name, checkpoint in tuned(config).items():
        chosen = selection(checkpoint)
        if name.startswith("full_data"):
            assert chosen is None
        else:
            assert chosen is not None and chosen.selecting == config.selecting
        plain = checkpoint.recipe.model_copy(update={"lora": None, "distillation": None})
        assert plain == config.fine_tuning
        assert (checkpoint.recipe.lora is not None) == name.startswith("lora")


def test_what_is_weighted_distilled_or_adapted_are_the_very_traces_of_random(opened: Any) -> None:
    found = tuned(opened("scale=h100"))
    others = [name for name in found if name.startswith(("weighted", "lora", "distilled"))]
    assert len(others) == 3 * 12
    for name in others:
        random = f"random/{name.partition('/')[2]}"
        assert fingerprint(selection(found[name])) == fingerprint(selection(found[random])), name  # type: ignore[arg-type]
        assert fingerprint(found[name]) != fingerprint(found[random])


def test_the_teacher_is_the_first_seeds_model_of_the_whole_pool(opened: Any) -> None:
    found = tuned(opened("scale=h100"))
    tables = {
        fingerprint(teacher): teacher for stage in found.values() if (teacher := stage.teacher) is not None
    }
    assert len(tables) == 1, "what it says of the whole pool serves both divergences and all seeds"
    (table,) = tables.values()
    assert fingerprint(table.teacher) == fingerprint(found["full_data/seed-0"])  # type: ignore[attr-defined]


def test_one_pass_a_mask_serves_all_arms_and_seeds(opened: Any) -> None:
    order = stages(*air.targets(opened("scale=laptop")).values())
    assert sum(isinstance(stage, MeasureSteps) for stage in order) == 2, "the heads and one draw of others"
    names = [stage.name for stage in order]
    for once in ("build_traces", "detect_heads", "prepare_model", "build_worked_tasks", "measure_losses"):
        assert names.count(once) == 1, once


def test_heads_pool_and_model_are_those_of_the_main_comparison(opened: Any) -> None:
    theirs = attention_influence.targets(opened(name="attention_influence/main"))
    shared = {fingerprint(stage) for stage in stages(*theirs.values())}
    ours = [s for s in stages(*air.targets(opened()).values()) if s.name in ("detect_heads", "build_pool")]
    assert len(ours) == 2 and {fingerprint(stage) for stage in ours} <= shared


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("+arms.x={selector:nobody}", "the arm x names nobody, which is none of the selectors"),
        ("+arms.x={weights:{kind:rank},weighted_by:nobody}", "the arm x names nobody"),
        ("+arms.length={selector:random}", "length is the name of two arms"),
        ("~selectors.random", "selectors must have random"),
        ("+arms.x={selectors:random}", "there is no setting arms.x.selectors"),
    ],
)
def test_arms_that_cannot_be_are_refused(opened: Any, change: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        opened(change)


def test_what_is_shown_must_be_what_was_learned(opened: Any) -> None:
    with pytest.raises(UserError, match="shown otherwise than traces are"):
        air.targets(opened("rendering.template=plain"))


@pytest.mark.parametrize("scale", ["smoke", "laptop", "h100"])
def test_own_traces_are_asked_benchmarks_and_no_generated_problems(
    opened: Any, tmp_path: Path, scale: str
) -> None:
    (tmp_path / "own.jsonl").write_text('{"prompt": "a b", "response": "c d"}\n')
    own = (
        f"scale={scale}",
        "traces=local",
        f"traces.path={tmp_path / 'own.jsonl'}",
        "segmentation=blank_line",
    )
    with pytest.raises(UserError, match="use evaluation=air-paper or traces=generated"):
        air.targets(opened(*own))
    asked = opened(*own, "evaluation=air-paper")
    assert "build_worked_tasks" not in {stage.name for stage in stages(*air.targets(asked).values())}


class Finished:
    """A store in which evaluations are finished, with values that a rule makes up."""

    def __init__(self, folder: Path, config: air.Config, without: str = "") -> None:
        self._folders: dict[str, Path] = {}
        for run in air.runs(config):
            if run.name == without:
                continue
            self._folders[fingerprint(run.evaluation)] = folder / run.name
            (folder / run.name).mkdir(parents=True)
            records = [
                Record(task.name, "1", f"item{i}", f"c{i // 2}", run.seed, metric, self.value(run, i), higher)
                for task in config.evaluation.planned()
                for metric, higher in zip(
                    task.metrics, (task.metrics[0] == "exact_match", False), strict=False
                )
                for i in range(8)
            ]
            write_records(folder / run.name / "records.parquet", records, {})

    @staticmethod
    def value(run: Cell, item: int) -> float:
        """Weighting by ranks is a tenth of a nat better than random, everywhere; nothing else differs."""
        noise = crc32(f"{run.name} {item}".encode()) / 2**32
        return 1 + 0.1 * item + 0.01 * noise - 0.1 * (run.variant == "weighted_rank")

    def find(self, stage: Stage) -> Path | None:
        return self._folders.get(fingerprint(stage)) if isinstance(stage, Evaluate) else None


def test_a_planted_effect_is_found_and_the_base_stands_beside_every_seed(opened: Any, tmp_path: Path) -> None:
    config = opened("scale=laptop", "seeds=[0,1,2]")
    store: Any = Finished(tmp_path, config)
    table = air.find(config, store).table
    assert table is not None and list(table.spec.rows[0].variant) == list(air.BASE)
    better = {name for name, verdict in table.verdicts.items() if verdict and verdict.outcome == "beat"}
    assert better == {"weighted_rank"}
    cell = table.cells[air.BASE, "worked_school", "answer_nats"]
    assert cell is not None and cell.value.n_runs == len(config.seeds) == 3
    counted = {(c.task.partition("_")[0], c.metric) for c in table.spec.columns if c.in_composite}
    assert counted == {("worked", "answer_nats"), ("final", "answer_nats")}


def test_a_hole_is_refused_unless_a_partial_table_is_asked_for(opened: Any, tmp_path: Path) -> None:
    config = opened("scale=laptop")
    store: Any = Finished(tmp_path, config, without="ifd/seed-1")
    with pytest.raises(IncompleteTable, match="ifd"):
        air.find(config, store)
    table = air.find(config, store, partial=True).table
    assert table is not None and table.cells["ifd", "worked_school", "answer_nats"] is None
    assert table.cells["random", "worked_school", "answer_nats"] is not None


def test_a_tenth_shares_what_is_not_selected_and_selects_less(opened: Any) -> None:
    quarter, less = opened("scale=h100"), opened("scale=h100", name="air/tenth")
    before, after = (target_fingerprints(air, config) for config in (quarter, less))
    shared = {name for name in after if after[name] == before.get(name)}
    assert {name.partition("/")[0] for name in shared} == {air.BASE, "full_data"} and len(shared) == 4
    assert {name.partition("/")[0] for name in after} == {air.BASE, "full_data", *quarter.selectors}
    for name, checkpoint in tuned(less).items():
        chosen = selection(checkpoint)
        if chosen is None:
            continue
        other = selection(tuned(quarter)[name])
        assert other is not None and replace(chosen, selecting=other.selecting) == other
        assert (chosen.selecting.share, other.selecting.share) == (0.1, 0.25)
