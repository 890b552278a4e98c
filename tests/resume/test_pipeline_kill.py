"""`airlab score` and `airlab heads`, killed between any two files, give the same bytes when run again."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.unit.cli.conftest import documents, write_jsonl
from tests.unit.cli.model_folders import planted_folder, random_folder
from tests.unit.cli.test_cli_heads import prose

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("pipeline_worker.py")


class Place:
    """One folder with a store of its own, in which one command is run and killed."""

    def __init__(self, folder: Path, command: list[str], output: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.command, self.output = [*command, f"output={output}"], folder / output

    def run(self, stage: str, killed_after: int = 0, by: str = "SIGKILL") -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "AIRLAB_STORE": str(self.folder / "store"),
            "AIRLAB_CACHE": str(self.folder / "cache"),
            "PIPELINE_LOG": str(self.folder / "log"),
            "OMP_NUM_THREADS": "1",
            "PIPELINE_SIGNAL": by,
        }
        command = [sys.executable, str(WORKER), stage, str(killed_after), *self.command]
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120
        )

    def log(self) -> list[str]:
        return (self.folder / "log").read_text().splitlines()

    def leftovers(self) -> list[Path]:
        found = [*self.folder.rglob(".writing-*"), *self.folder.rglob("*.part")]
        return [p for p in found if p.exists()]


def check(place: Place, reference: Place, moments: list[tuple[str, int]]) -> None:
    """Kill at each of the moments in turn, each time further on, then let it end."""
    for stage, count in moments:
        done = place.run(stage, count)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not place.output.exists()
    done = place.run(moments[-1][0])
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "%|" not in done.stderr
    assert place.output.read_bytes() == reference.output.read_bytes()
    assert set(reference.log()) <= set(place.log())
    again = [name for name, times in Counter(place.log()).items() if times > 1]
    assert all("skipped" in name for name in again), "a finished shard was made twice"
    assert place.leftovers() == []


@pytest.fixture(scope="module")
def score(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("given")
    model = random_folder(folder / "model")
    rows = documents(530)
    rows[3] |= {"text": "x"}
    rows[300] |= {"text": " "}
    (folder / "heads.json").write_text("[[1, 2]]")
    docs = write_jsonl(folder / "docs.jsonl", rows)
    return ["score", "model=local", f"model.path={model}", f"heads={folder / 'heads.json'}", f"input={docs}"]


@pytest.fixture(scope="module")
def reference(score: list[str], tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("reference"), score, "out.parquet")
    done = place.run("measure_losses")
    assert done.returncode == 0, done.stderr
    assert "530 documents in, 528 scored, 2 skipped" in done.stdout
    return place


def test_scoring_killed_in_every_stage_gives_the_same_bytes(
    score: list[str], reference: Place, tmp_path: Path
) -> None:
    # Three shards with what was scored and what was skipped, then both tables.
    assert len(reference.log()) == 8
    # After the import's first table; inside the second shard; between the second and the third.
    place = Place(tmp_path / "place", score, "out.parquet")
    check(place, reference, [("import_corpus", 1), ("measure_losses", 3), ("measure_losses", 2)])
    skipped = "out.skipped.parquet"
    assert (place.folder / skipped).read_bytes() == (reference.folder / skipped).read_bytes()


def test_scoring_stopped_by_ctrl_c_says_so_and_continues(
    score: list[str], reference: Place, tmp_path: Path
) -> None:
    place = Place(tmp_path / "place", score, "out.parquet")
    stopped = place.run("measure_losses", 2, by="SIGINT")
    assert stopped.returncode == 130, stopped.stderr
    assert stopped.stderr.splitlines()[-1].endswith("stopped; the same command continues where it was.")
    assert "Traceback" not in stopped.stderr and "Exception" not in stopped.stderr
    assert list(place.folder.rglob(".writing-*")) == []
    check(place, reference, [("measure_losses", 1)])


def test_scoring_killed_with_other_shards_starts_again_and_gives_the_same_losses(
    score: list[str], reference: Place, tmp_path: Path
) -> None:
    larger = [*score, "machine.documents_per_shard=512"]
    large = Place(tmp_path / "large", larger, "out.parquet")
    assert large.run("measure_losses").returncode == 0
    mixed = Place(tmp_path / "mixed", score, "out.parquet")
    assert mixed.run("measure_losses", 3).returncode == -signal.SIGKILL
    mixed.command = large.command
    # Killed in its second shard: what is continued then is its own first one.
    check(mixed, large, [("measure_losses", 3)])
    one, other = (pq.read_table(place.output) for place in (reference, large))
    assert one.schema.metadata == other.schema.metadata
    assert one.select(["id", "domain", "n_tokens"]).equals(other.select(["id", "domain", "n_tokens"]))
    for name in ("loss_base", "loss_ref", "entropy"):
        np.testing.assert_allclose(one[name].to_numpy(), other[name].to_numpy(), rtol=1e-6)


def test_detection_killed_gives_the_same_bytes(tmp_path: Path) -> None:
    model = planted_folder(tmp_path / "model")
    command = [
        "heads", "model=local", f"model.path={model}", "corpus=local",
        f"corpus.path={prose(tmp_path / 'prose.jsonl')}", "probes.count=18", "probes.max_tokens=512",
        "probes.demonstrations=1", "probes.max_value_tokens=40",
    ]  # fmt: skip
    reference = Place(tmp_path / "reference", command, "heads.json")
    done = reference.run("detect_heads")
    assert done.returncode == 0, done.stderr
    assert reference.log() == ["probes/000000.npz", "probes/000016.npz", "heads.json"]
    check(Place(tmp_path / "place", command, "heads.json"), reference, [("detect_heads", 1)])
