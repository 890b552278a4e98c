"""Traces read and steps measured, killed between files, give the same bytes when run again."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import torch

from airlab.schema.machine import Machine
from airlab.stages.measure_steps import KINDS
from airlab.store.plan import Plan
from airlab.store.store import Store
from tests.resume.steps_worker import stage
from tests.unit.cli.conftest import text, write_jsonl
from tests.unit.cli.model_folders import random_folder

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("steps_worker.py")


def attempt(folder: Path, killed_after: int) -> int:
    # As many threads as the undisturbed run in this process: another number rounds otherwise.
    threads = str(torch.get_num_threads())
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": threads}
    command = [sys.executable, str(WORKER), str(folder), str(killed_after)]
    return subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False).returncode


def test_killed_between_files_the_rest_is_done_and_nothing_twice(tmp_path: Path) -> None:
    (tmp_path / "heads.json").write_text("[[1, 2]]")
    random_folder(tmp_path / "model")
    rows = [{"prompt": text(n), "response": f"{text(n + 1)}\n\n{text(n + 2)}"} for n in range(300)]
    rows[7] |= {"response": "\n\n".join(text(n) for n in range(20))}
    write_jsonl(tmp_path / "traces.jsonl", rows)
    given = stage(tmp_path)
    Plan(Store(tmp_path / "undisturbed"), [given]).run(Machine())
    # With a shard's steps but not its losses, after the three files of the traces; in the merge.
    for count in (3 + 2, 3 + 3 + 2):
        assert attempt(tmp_path, count) == -signal.SIGKILL
        assert Store(tmp_path / "store").find(given) is None
    assert {p.name for p in Store(tmp_path / "store").part(given).glob("*.parquet")} == {
        "skipped.parquet",
        "steps.parquet",
    }
    assert attempt(tmp_path, 0) == 0
    expected, found = (Store(tmp_path / name).folder(given) for name in ("undisturbed", "store"))
    for kind in KINDS:
        assert (found / f"{kind}.parquet").read_bytes() == (expected / f"{kind}.parquet").read_bytes()
    done = Counter((tmp_path / "log").read_text().splitlines())
    assert {name: times for name, times in done.items() if name.startswith("shards/losses")} == {
        f"shards/losses-{first:012d}-{min(first + 255, 299):012d}.parquet": 1 for first in (0, 256)
    }
    assert done["shards/steps-000000000000-000000000255.parquet"] == 2, "it was killed before its losses"
    assert not [*(tmp_path / "store").rglob("*.part"), *(tmp_path / "store").rglob(".writing-*")]
    one, other = (Store(tmp_path / name).record(given) for name in ("undisturbed", "store"))
    assert one is not None and other is not None and one.notes == other.notes
    assert one.notes["skipped_by_reason"] == {"longer than 256 tokens": 1}
