"""docs/DATATROVE.md: every script and every command on the page runs as it stands, and does what it says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.cli.model_folders import random_folder

pytest.importorskip("datatrove")

from tests.unit.pipelines.test_datatrove_steps import stand_in_for_slurm

ROOT = Path(__file__).parents[3]
BLOCKS = re.findall(
    r"^```(\w+)\n(.*?)^```", (ROOT / "docs/DATATROVE.md").read_text(), re.MULTILINE | re.DOTALL
)
SCRIPTS = {code.splitlines()[0].removeprefix("# "): code for language, code in BLOCKS if language == "python"}
COMMANDS = [line for language, code in BLOCKS if language == "bash" for line in code.splitlines()]
AIRLAB = "import shlex, sys; from airlab.cli.main import dispatch; " + (
    "sys.exit(max(dispatch(shlex.split(line)[1:]) for line in sys.argv[1:]))"
)
"""The commands one after the other in one process: to start costs more than they do."""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the page takes for granted."""
    random_folder(tmp_path / "model")
    (tmp_path / "heads.json").write_text("[[1, 2], [2, 0]]")
    rows = [
        {"id": f"d{n}", "text": f"Row {n} of many. " * (1 + n % 7), "domain": "ab"[n % 2]} for n in range(300)
    ]
    rows[5]["text"] = "x"
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "corpus").mkdir()
    for part in range(2):
        pq.write_table(pa.Table.from_pylist(rows[part * 20 :][:20]), tmp_path / f"corpus/{part}.parquet")
    for name, code in SCRIPTS.items():
        (tmp_path / name).write_text(code)
    monkeypatch.setenv("AIRLAB_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("AIRLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(tmp_path)]))
    return tmp_path


def run(work: Path, *command: str) -> str:
    done = subprocess.run([sys.executable, *command], cwd=work, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def test_the_page_has_the_scripts_that_are_tested() -> None:
    assert list(SCRIPTS) == ["score.py", "measure.py", "cluster.py", "on_ray.py", "actors.py"]
    assert [line.split()[:2] for line in COMMANDS] == [["airlab", v] for v in ("score", "select", "export")]


def test_the_step_scores_documents_in_a_pipeline(work: Path) -> None:
    run(work, "score.py")
    found = [row for part in sorted((work / "scored").iterdir()) for row in pq.read_table(part).to_pylist()]
    assert [row["id"] for row in found] == [f"d{n}" for n in range(40) if n != 5]
    for row in found:
        assert {"n_tokens", "loss_base", "loss_ref", "entropy", "attention_influence", "domain"} <= set(
            row["metadata"]
        )


def test_workers_leave_a_table_that_the_commands_go_on_with(work: Path) -> None:
    run(work, "measure.py")
    said = run(work, "-c", AIRLAB, *COMMANDS)
    assert "2 of 2 stages need no work" in said, "the table is there already"
    assert "scores.parquet: 300 documents in, 299 scored" in said
    assert "selected.jsonl.zst: 60 of 300 documents (240 not selected)" in said
    assert pq.read_metadata(work / "scores.parquet").num_rows == 299


def test_slurm_is_given_the_tasks_and_they_leave_their_shards(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (work / "cluster.py").read_text()
    assert code.count("tasks=40") == 1
    (work / "cluster.py").write_text(code.replace("tasks=40", "tasks=1"))  # each starts a process of its own
    stand_in_for_slurm(work / "bin", monkeypatch)
    run(work, "cluster.py")
    assert len(list((work / "store").glob("measure_losses/*.part/shards/losses-*"))) == 2


def test_ray_is_given_the_tasks_and_the_stage_joins_what_they_leave(work: Path) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    said = run(work, "on_ray.py")
    assert "All 4/4 tasks." in said
    (losses,) = (work / "store").glob("measure_losses/*/losses.parquet")
    assert pq.read_metadata(losses).num_rows == 299


def test_rays_data_sets_take_the_scores_as_columns(work: Path) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    run(work, "actors.py")
    found = pq.read_table(work / "rows").sort_by("id")
    assert sorted(found["id"].to_pylist()) == sorted(f"d{n}" for n in range(40))
    assert {"domain", "text", "n_tokens", "loss_base", "loss_ref", "entropy", "attention_influence"} <= set(
        found.column_names
    )
    assert found["loss_base"].null_count == 1
