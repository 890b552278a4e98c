"""A published masking check: verified by its lock and shown like a table, though it has none."""

from pathlib import Path

import pytest

from airlab.cli.experiment import published_targets
from airlab.reporting.lock import write_lock
from tests.unit.cli.conftest import Airlab

NAME = "attention_influence/masking_check"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results" / NAME / "smoke"
    folder.mkdir(parents=True)
    (folder / "masking.md").write_text("# what masking takes\n")
    write_lock(folder, published_targets(NAME, "smoke"), {}, [], {}, ["masking"])
    return tmp_path / "results"


def test_it_is_verified_and_shown(airlab: Airlab, results: Path) -> None:
    answer = airlab("verify", f"results={results}")
    assert (answer.code, answer.out) == (0, f"{NAME} at scale smoke: current\n")
    shown = airlab("report", f"results={results}")
    assert shown.code == 0 and "what masking takes" in shown.out


def test_a_draw_that_moved_is_seen(airlab: Airlab, results: Path) -> None:
    targets = published_targets(NAME, "smoke") | {"random/draw-1": "0" * 64}
    write_lock(results / NAME / "smoke", targets, {}, [], {}, ["masking"])
    answer = airlab("verify", f"results={results}")
    assert answer.code == 2
    assert answer.out == f"{NAME} at scale smoke: out of date in 1 cells, first random/draw-1\n"
