"""docs/COST.md is what plans, rates and locks say."""

from pathlib import Path

import pytest

from tests.docs_scripts import load

writer = load("cost")


def test_the_page_is_current() -> None:
    assert writer.PAGE.read_text(encoding="utf-8") == writer.page(), "run `make docs` and commit the page"


def test_a_grid_costs_what_its_cells_do(tmp_path: Path) -> None:
    small = writer.planned("weak_to_strong", "h100", tmp_path)
    arms = writer.planned("weak_to_strong_arms", "h100", tmp_path)
    assert (small.models, arms.models) == (9, 10)
    assert small.tokens / 9 == arms.tokens / 10 == 314_572_800
    assert small.training / 9 == pytest.approx(arms.training / 10)
    assert arms.scoring == pytest.approx(2 * small.scoring, rel=0.05)  # two passes, and heads found once


def test_every_experiment_on_a_gpu_is_on_the_page() -> None:
    results = writer.ROOT / "results" / "attention_influence"
    published = {lock.parents[1].name for lock in results.glob("*/h100/lock.json")}
    # A plan counts neither the masking check's tasks nor heads in training; the coverage audit needs no GPU.
    assert published - {"masking_check", "heads", "coverage_audit"} <= set(writer.EXPERIMENTS)


def test_what_was_thrown_away_unmeasured_has_no_minutes(tmp_path: Path) -> None:
    def measured(experiment: str) -> float | None:
        return writer.measured_minutes(experiment, writer.planned(experiment, "h100", tmp_path).stages)

    assert measured("selection") > 3
    assert measured("selector_size") is None  # its lock says 0 s for training
    assert measured("continued") is None  # its lock leaves training out: some of its cells did not note it
    assert measured("development") > 14
    assert writer.measured_minutes("no such table", ["evaluate"]) is None
