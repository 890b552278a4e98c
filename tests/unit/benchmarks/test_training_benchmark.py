"""The benchmark of training runs from start to end, and what is published is what was measured."""

import json
from pathlib import Path

import pytest

import training


def test_the_published_tables_are_those_of_the_results() -> None:
    results = training.RESULTS / "training-h100.json"
    published = results.with_suffix(".md").read_text()
    assert published == training.render(json.loads(results.read_text())), "run it with --sections alone"
    for name, size in (("124m", "48.4%"), ("360m", "51.4%")):
        assert size in published.split(f"## {name}")[1].split("##")[0]


def test_rates_and_shares_follow_from_what_was_measured() -> None:
    for section in json.loads((training.RESULTS / "training-h100.json").read_text())["sections"].values():
        for row in section["rows"]:
            if "failed" in row:
                continue
            contender = training.Contender(**row["contender"])
            found = training._derived(contender, row["visible"], row)
            assert found.pop("flops_per_token") == row["flops_per_token"]
            assert {name: row[name] for name in found} == pytest.approx(found)


def test_palms_formula_is_that_of_the_paper() -> None:
    """PaLM 540B: 118 layers, 48 heads of 256, 2,048 tokens; 46.2 % at 238,300 tokens/s on 6,144 TPUs."""
    weights, attention = 6 * 540e9, 12 * 118 * 48 * 256 * 2048
    assert 238_300 * (weights + attention) / (6144 * 275e12) == pytest.approx(0.462, abs=0.003)
    shape = training.SHAPES["360m"]
    row = training._derived(training.sections(rehearsal=False)["360m"][0], 1.0, {"seconds_per_update": 1.0})
    assert row["flops_per_token"]["palm"] == 6 * shape.n_parameters(49152) + 12 * 32 * 960 * 2048


def test_the_rehearsal_trains_every_contender(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training.main(["--rehearse", "--sections", "124m", "--output", str(tmp_path)])
    rows = json.loads((tmp_path / "training-rehearsal.json").read_text())["sections"]["124m"]["rows"]
    assert [row["contender"]["engine"] for row in rows] == ["library", "library", "trainer"]
    assert all("failed" not in row and row["tokens_per_second"] > 0 for row in rows)
    assert (tmp_path / "training-rehearsal.md").read_text().strip() in capsys.readouterr().out


def test_a_section_that_is_not_there_is_named() -> None:
    with pytest.raises(SystemExit):
        training.main(["--rehearse", "--sections", "70b"])
