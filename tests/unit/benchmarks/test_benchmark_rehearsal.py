"""Every section runs from start to end, and refuses to compare what does not agree."""

import json
from pathlib import Path

import pytest

import scoring
from scorebench import engine
from scorebench.report import RENDER

REHEARSE = ["--rehearse", "--repeats", "1", "--rivals", "sdpa-sorted", "--sections"]


def test_every_section_runs_and_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scoring.main([*REHEARSE, *scoring.SECTIONS, "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "scoring-rehearsal-cpu.json").read_text())
    assert set(results["sections"]) == set(scoring.SECTIONS) == set(RENDER)
    for name, section in results["sections"].items():
        assert f"## {name}" in printed
        assert section["provenance"]["packages"]["torch"]
    facts = {name: section["facts"] for name, section in results["sections"].items()}
    assert facts["fidelity"]["precisions"]["float32"]["selected_overlap"] == 1
    assert facts["fidelity"]["precisions"]["float32"]["spearman"] > 0.999
    assert facts["heads"]["largest_difference_of_a_score"] < 1e-6
    assert facts["end-to-end"]["tokens_per_second"] > 0
    assert printed.strip().endswith((tmp_path / "scoring-rehearsal-cpu.md").read_text().strip())


def test_sections_measured_before_stay(tmp_path: Path) -> None:
    for section in ("roofline", "bound"):
        scoring.main([*REHEARSE, section, "--output", str(tmp_path)])
    results = json.loads((tmp_path / "scoring-rehearsal-cpu.json").read_text())
    assert list(results["sections"]) == ["bound", "roofline"]


def test_contenders_that_disagree_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = engine.padded_losses
    monkeypatch.setattr(engine, "padded_losses", lambda *args, **more: right(*args, **more) * 1.001)
    with pytest.raises(SystemExit, match="disagree"):
        scoring.main([*REHEARSE, "engine-1.3b", "--output", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_inputs_come_together_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="belong together"):
        scoring.main(["--sections", "fidelity", "--model", str(tmp_path), "--output", str(tmp_path)])
