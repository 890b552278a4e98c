"""What is published is what was measured."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import scoring
from scorebench import report
from scorebench.fidelity import accuracy

RESULTS = sorted(scoring.RESULTS.glob("scoring-*.json"))


def test_the_documentation_shows_the_committed_results() -> None:
    text = scoring.DOCUMENT.read_text()
    assert text.count("<!-- bench:") == text.count("<!-- /bench -->") >= 3
    assert report.fill(text, scoring.RESULTS) == text, "run benchmarks/scoring.py --sections"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_committed_tables_are_those_of_the_committed_facts(path: Path) -> None:
    results = json.loads(path.read_text())
    assert path.with_suffix(".md").read_text() == report.render(results)
    assert path.stem == f"scoring-{results['device']}"


def test_a_block_without_results_says_so(tmp_path: Path) -> None:
    text = "before\n<!-- bench:h100 heads -->\nold\n<!-- /bench -->\nafter"
    filled = report.fill(text, tmp_path)
    assert "Not measured yet" in filled
    assert "old" not in filled
    assert filled.startswith("before\n")
    assert filled.endswith("\nafter")
    assert report.fill(filled, tmp_path) == filled


@pytest.mark.parametrize(
    ("over_one_pass", "over_two", "outcomes"),
    [
        (1.4, 2.1, ["met", "met"]),
        (1.65, 1.9, ["missed by 10.0%", "missed by 5.0%"]),
        (4.5, 2.0, ["3.0 times", "met"]),
    ],
)
def test_targets_are_met_or_missed_in_the_right_direction(
    over_one_pass: float, over_two: float, outcomes: list[str]
) -> None:
    facts = {"rows": {"airlab": {"over_one_pass": over_one_pass}}, "two_passes_over_airlab": over_two}
    lines = report.targets({"cpu": {"facts": facts}}).splitlines()[2:]
    assert len(lines) == 2
    for line, outcome in zip(lines, outcomes, strict=True):
        assert outcome in line


def test_what_was_not_measured_has_no_outcome() -> None:
    assert report.targets({}) == "No target was measured."
    rows: dict[str, Any] = {"airlab": {"share_of_bound": 0.8, "peak_gib": None}}
    assert report.targets({"engine-1.3b": {"facts": {"rows": rows}}}).count("1.3B") == 1


def test_accuracy_sees_a_wrong_rank_and_a_wrong_selection() -> None:
    truth = np.array([np.full(10, 100.0), 100 + np.arange(10.0)])
    same = accuracy(truth, truth)
    assert (same["spearman"], same["selected_overlap"]) == (pytest.approx(1), 1)
    swapped = truth.copy()
    swapped[1, [7, 8]] = swapped[1, [8, 7]]
    wrong = accuracy(swapped, truth)
    assert wrong["selected_overlap"] == 0.5
    assert wrong["spearman"] < 0.99
    assert wrong["relative_error"]["reference"]["worst"] == pytest.approx(1 / 107)
    assert wrong["relative_error"]["base"]["worst"] == 0


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-40GB", "a100-sxm4"),
        ("NVIDIA GeForce RTX 4090", "geforce-rtx-4090"),
    ],
)
def test_results_are_named_after_the_gpu(monkeypatch: pytest.MonkeyPatch, name: str, short: str) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
    assert scoring.device_name("cuda") == short
