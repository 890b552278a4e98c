"""A million documents take the memory that a hundred thousand take, in scoring and in selecting."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.faults.ledger import FULL, count
from tests.unit.cli.model_folders import random_folder

ROOT = Path(__file__).parents[3]
FEW, MANY = (100_000, 1_000_000) if FULL else (5_000, 20_000)
DOMAINS = ("prose", "code", "mathematics", "reference")
AT_MOST = 1.1
REAL = (10_000, 100_000)
"""Documents that a model of one layer reads, in the full form."""

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")


def write_documents(path: Path, n: int) -> Path:
    """Short documents of four domains, whose ids are in no order."""
    with path.open("w") as file:
        for i in range(n):
            text = f"{(i * 7919) % 1009} {'abcdefgh'[i % 8]}{(i * 31) % 97}"
            row = {"id": f"d{(i * 7919) % n:07d}", "text": text, "domain": DOMAINS[i % 4]}
            file.write(json.dumps(row) + "\n")
    return path


def peak_mib(folder: Path, *arguments: str, model: str = "none") -> float:
    """What a command took at most."""
    places = {"AIRLAB_STORE": str(folder / "store"), "AIRLAB_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "tests.faults.load.stand_in", model, *arguments]
    environment = os.environ | places | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1]) / 1024


def score(n: int) -> list[str]:
    """A command that scores the file of so many documents."""
    model = ["model=local", "model.path=model", "heads=heads.json"]
    return [
        "score",
        *model,
        f"input={n}.jsonl",
        f"output=scores-{n}.parquet",
        "machine.documents_per_shard=1024",
    ]


@pytest.fixture(scope="module")
def peaks(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[float, float]]:
    """By the number of documents: MiB of scoring and of selecting."""
    folder = tmp_path_factory.mktemp("load")
    random_folder(folder / "model")
    (folder / "heads.json").write_text("[[1, 2], [2, 0]]")
    found = {}
    for n in (FEW, MANY):
        documents = write_documents(folder / f"{n}.jsonl", n)
        scoring = peak_mib(folder, *score(n))
        documents.unlink()
        selecting = peak_mib(folder, "select", f"scores=scores-{n}.parquet", f"output=selected-{n}.parquet")
        assert pq.read_metadata(folder / f"scores-{n}.parquet").num_rows == n
        assert pq.read_metadata(folder / f"selected-{n}.parquet").num_rows == 4 * round(0.2 * n / 4)
        found[n] = (scoring, selecting)
    return found


@pytest.mark.parametrize("place", [0, 1], ids=["scored", "selected"])
def test_memory_does_not_grow_with_the_documents(peaks: dict[int, tuple[float, float]], place: int) -> None:
    few, many = peaks[FEW][place], peaks[MANY][place]
    what = ("scored", "selected")[place]
    count(
        "load",
        f"{MANY:,} documents {what}: {many:,.0f} MiB at most, {many / few - 1:+.1%} over {FEW:,}",
        inputs=MANY,
    )
    assert many < AT_MOST * few


@pytest.mark.skipif(not FULL, reason="a model reads 110,000 documents twice; AIRLAB_FAULTS=full")
def test_nor_does_it_with_a_real_model(tmp_path: Path) -> None:
    random_folder(tmp_path / "model", layers=1)
    (tmp_path / "heads.json").write_text("[[0, 2]]")
    few, many = (
        peak_mib(write_documents(tmp_path / f"{n}.jsonl", n).parent, *score(n), model="real") for n in REAL
    )
    what = f"{REAL[1]:,} documents scored by a real model"
    count("load", f"{what}: {many:,.0f} MiB at most, {many / few - 1:+.1%} over {REAL[0]:,}", inputs=REAL[1])
    assert many < AT_MOST * few
