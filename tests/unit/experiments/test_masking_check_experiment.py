"""The masking check: what it evaluates, what it shares with the main comparison, and what its page shows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from airlab.cli.experiment import open_experiment, target_fingerprints
from airlab.cli.main import configs_folder
from airlab.errors import UserError
from airlab.evaluation.records import Record, write_records
from airlab.reporting.masking import DRAWN, INTACT, RANDOM, RETRIEVAL, SAME_LAYER
from airlab.reporting.tables import IncompleteTable
from airlab.schema.machine import Machine
from airlab.stages.evaluate_masked import EvaluateMasked
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.stage import Workdir
from airlab.store.store import Store
from experiments.attention_influence import main, masking_check

NAME = "attention_influence/masking_check"


@pytest.fixture(scope="module")
def opened() -> Iterator[Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        yield lambda *more, name=NAME: open_experiment(compose("run", [f"experiment={name}", *more]))[1]


def stages(*targets: Any) -> list[Any]:
    return list(Plan(Store(Path("nowhere")), [stage for some in targets for stage in some.values()]).order)


@pytest.mark.parametrize(("scale", "draws"), [("smoke", 2), ("laptop", 5), ("h100", 10)])
def test_every_arm_the_plan_names_is_evaluated_once_a_draw(opened: Any, scale: str, draws: int) -> None:
    config = opened(f"scale={scale}")
    written = masking_check.__doc__ or ""
    arms = {line.split("`")[1] for line in written.splitlines() if line.startswith("- `")}
    assert arms == {INTACT, RANDOM, SAME_LAYER, RETRIEVAL}
    drawn = {f"{arm}/draw-{draw}" for arm in DRAWN for draw in range(draws)}
    assert set(masking_check.targets(config)) == {INTACT, RETRIEVAL, *drawn}
    names = [stage.name for stage in stages(masking_check.targets(config))]
    assert (names.count("random_heads"), names.count("control_heads")) == (draws, draws)
    assert names.count("detect_heads") == names.count("prepare_model") == names.count("build_tasks") == 1


def test_heads_pool_and_model_are_those_of_the_main_comparison(opened: Any) -> None:
    ours = stages(masking_check.targets(opened("scale=laptop")))
    theirs = stages(main.targets(opened("scale=laptop", name="attention_influence/main")))
    shared = {stage.name for stage in ours} & {stage.name for stage in theirs}
    assert shared >= {"prepare_model", "build_pool", "detect_heads"}
    known = {fingerprint(stage) for stage in theirs}
    for stage in ours:
        if stage.name in ("prepare_model", "build_pool", "detect_heads"):
            assert fingerprint(stage) in known, stage.name


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ("masking=zero", {RETRIEVAL, RANDOM, SAME_LAYER}),
        ("masking.share_of_heads=0.1", {RETRIEVAL, RANDOM, SAME_LAYER}),
        ("probes.seed=1", {RETRIEVAL, RANDOM, SAME_LAYER}),
        ("evaluation.minimum_items=19", {INTACT, RETRIEVAL, RANDOM, SAME_LAYER}),
        ("evaluation_batch_size=8", {INTACT, RETRIEVAL, RANDOM, SAME_LAYER}),
        ("training.budget_tokens=1024", set()),
        ("selecting.share=0.5", set()),
        ("machine=gpu1", set()),
    ],
)
def test_what_an_arm_depends_on_moves_it_and_nothing_else_does(
    opened: Any, change: str, moved: set[str]
) -> None:
    before, after = (
        target_fingerprints(masking_check, opened("scale=laptop", *more)) for more in ((), (change,))
    )
    assert before.keys() == after.keys()
    assert {name.split("/")[0] for name in before if before[name] != after[name]} == moved


def test_another_draw_adds_two_evaluations_and_moves_none(opened: Any) -> None:
    before, after = (
        target_fingerprints(masking_check, opened("scale=laptop", f"draws={draws}")) for draws in (3, 4)
    )
    assert after.keys() - before.keys() == {"random/draw-3", "same_layer/draw-3"}
    assert before.items() <= after.items()


def test_the_papers_benchmarks_can_be_asked_instead(opened: Any) -> None:
    config = opened("scale=laptop", "evaluation=paper")
    assert "build_tasks" not in {stage.name for stage in stages(masking_check.targets(config))}
    check = masking_check.check(config)
    assert len(check.columns) == len(check.accuracies) == 19 and all(c.in_composite for c in check.columns)


def test_a_corpus_without_held_out_text_needs_the_papers_benchmarks(opened: Any, tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").write_text('{"text": "x y"}\n')
    corpus = ("corpus=local", f"corpus.path={tmp_path / 'docs.jsonl'}")
    with pytest.raises(UserError, match="evaluation=paper"):
        opened(*corpus)
    assert masking_check.targets(opened(*corpus, "evaluation=paper"))


def test_every_task_is_in_the_composite_once_and_choices_show_accuracy_and_margin(opened: Any) -> None:
    check = masking_check.check(opened("scale=laptop"))
    counted = [column.task for column in check.columns if column.in_composite]
    assert sorted(counted) == sorted({column.task for column in check.columns}) and len(counted) == 13
    shown = {
        task: {c.metric for c in check.columns if c.task == task} for task in (c.task for c in check.columns)
    }
    for task in ("key_retrieval", "next_passage", "next_step", "title", "docstring"):
        assert shown[task] == {"acc_norm", "margin"}
    assert shown["copying"] == shown["reasoning_final"] == {"acc", "answer_nats"}
    chances = {c.task: c.chance for c in check.columns if c.chance is not None}
    assert chances["key_retrieval"] == pytest.approx(1 / 6) and chances["title"] == 0.25


def fake_run(stage: EvaluateMasked, work: Workdir, machine: Machine) -> None:
    """Values that depend on the arm, for every column, in place of an evaluation."""
    made = []
    for task in stage.tasks.spec.planned():  # type: ignore[union-attr]
        for metric in task.metrics:
            higher = metric in ("acc", "acc_norm", "margin")
            for item in range(6):
                value = item % 2 if metric.startswith("acc") else item**2 + item * len(stage.slug())
                made.append(
                    Record(task.name, "v", f"{task.name}-{item}", None, 0, metric, float(value), higher)
                )
    with work.writing("records.parquet") as path:
        write_records(path, made, {})
    work.note(masked_heads=[[1, 2]])


def test_the_page_and_the_masked_heads_come_from_finished_evaluations(
    opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, store = opened("scale=smoke"), Store(tmp_path / "store")
    monkeypatch.setattr(EvaluateMasked, "run", fake_run)
    monkeypatch.setattr(EvaluateMasked, "inputs", lambda self: ())
    with pytest.raises(IncompleteTable, match="random x copying/acc x draw 0, 1"):
        masking_check.find(config, store)
    done = masking_check.targets(config)
    missing = done.pop("random/draw-1")
    Plan(store, list(done.values())).run(Machine())
    with pytest.raises(IncompleteTable, match="random x copying/acc x draw 1"):
        masking_check.find(config, store)
    (holed,) = masking_check.find(config, store, partial=True).pages
    assert {row[2] for row in holed.sections[0].rows} == {"missing"}
    Plan(store, [missing]).run(Machine())
    found = masking_check.find(config, store)
    (page,) = found.pages
    assert found.table is None and found.names == ("masking",)
    assert "missing" not in {cell for section in page.sections for row in section.rows for cell in row}
    told = masking_check.selections(config, store)
    assert told.keys() == masking_check.targets(config).keys()
    assert all(heads == {"masked_heads": [[1, 2]]} for heads in told.values())
