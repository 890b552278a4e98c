"""`airlab archive` and `restore`: a table is written where nothing of it was made."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from airlab.reporting.lock import LOCK
from airlab.store.store import Store
from tests.unit.cli.conftest import Airlab, Refused
from tests.unit.cli.test_cli_experiment import NAME as PUBLISHED
from tests.unit.cli.test_cli_experiment import results  # noqa: F401
from tests.unit.cli.test_sweep import NAME, finish

SETTINGS = (f"experiment={NAME}", "scale=smoke")
PLACE = Path(NAME) / "smoke"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with made-up records of every cell, to be copied."""
    root = tmp_path_factory.mktemp("whole")
    finish(Store(root))
    return root


@pytest.fixture
def store(airlab: Airlab, tmp_path: Path, whole: Path) -> Iterator[Path]:
    """The one that the commands open."""
    yield Path(shutil.copytree(whole, tmp_path / "store"))


@pytest.fixture
def artifacts(store: Path, airlab: Airlab) -> Path:
    """An archive of all of it."""
    assert airlab("archive", *SETTINGS).code == 0
    return Path("results/artifacts")


def cells(root: Path) -> list[Path]:
    return sorted((root / "evaluate").glob("seed*"))


def test_a_table_is_the_same_in_a_store_to_which_it_was_carried(
    airlab: Airlab, store: Path, artifacts: Path
) -> None:
    assert airlab("table", *SETTINGS, "results=made").code == 0
    store.rename(store.with_name("far away"))
    assert airlab("table", *SETTINGS, "results=carried").code == 2
    count = len(cells(artifacts))
    answer = airlab("restore")
    assert (answer.code, answer.out) == (0, f"results/artifacts: {count} copied, 0 already there\n")
    assert airlab("table", *SETTINGS, "results=carried").code == 0
    made, carried = Path("made") / PLACE, Path("carried") / PLACE
    names = sorted(path.name for path in made.iterdir())
    assert names == sorted(path.name for path in carried.iterdir()) and "table.csv" in names
    for name in set(names) - {LOCK}:
        assert (made / name).read_bytes() == (carried / name).read_bytes(), name
    locks = [json.loads((folder / LOCK).read_text()) for folder in (made, carried)]
    assert locks[0]["cells"] == locks[1]["cells"] and locks[0]["wall_s"] == locks[1]["wall_s"]
    answer = airlab("restore", f"input={artifacts}")
    assert answer.out == f"results/artifacts: 0 copied, {count} already there\n"


def test_what_is_not_finished_is_counted(airlab: Airlab, store: Path) -> None:
    first, *rest = cells(store)
    shutil.rmtree(first)
    answer = airlab("archive", *SETTINGS, "output=kept")
    assert answer.code == 0, answer.err
    told = answer.out.splitlines()
    n, n_bytes = (
        len(rest),
        sum(p.stat().st_size for f in rest for p in f.iterdir() if p.name != "record.json"),
    )
    assert "detect_heads: 0 of 1 finished" in told and f"evaluate: {n} of {n + 1} finished" in told
    wanted = sum(int(line.split(" of ")[1].split()[0]) for line in told if line.endswith(" finished"))
    assert told[-2] == f"kept: {n} of {wanted} artifacts, {n_bytes:,} bytes; {n} copied, 0 already there"
    assert told[-1].startswith(f"{wanted - n} not finished and not archived; airlab run")
    again = airlab("archive", *SETTINGS, "output=kept").out.splitlines()
    assert again[-2].endswith(f"; 0 copied, {n} already there")
    assert [f.name for f in cells(Path("kept"))] == [f.name for f in rest]


def test_only_the_cells_and_stages_that_are_asked_for_are_archived(airlab: Airlab, store: Path) -> None:
    answer = airlab("archive", *SETTINGS, "only=[random/*]", "stages=[evaluate]")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[0] == "evaluate: 1 of 1 finished"
    assert "not finished" not in answer.out
    assert len(cells(Path("results/artifacts"))) == 1 < len(cells(store))


def test_a_stage_that_does_not_exist_is_refused(refused: Refused) -> None:
    told = refused("archive", *SETTINGS, "stages=[evaluate,evalute]")
    assert f"there is no stage 'evalute'; those of {NAME} are " in told and "measure_losses" in told


def test_a_damaged_archive_is_refused_and_none_of_it_restored(
    refused: Refused, store: Path, artifacts: Path
) -> None:
    shutil.rmtree(store)
    last = cells(artifacts)[-1]
    with (last / "records.parquet").open("r+b") as file:
        file.write(b"?")
    told = refused("restore")
    assert f"{last} is damaged: its file records.parquet was changed" in told
    assert not store.exists()
    (artifacts / "note.txt").touch()
    assert "note.txt is no archived artifact" in refused("restore")
    assert "cannot read the archive nowhere" in refused("restore", input="nowhere")


def test_what_another_run_made_is_not_overwritten(refused: Refused, store: Path, artifacts: Path) -> None:
    shutil.rmtree(store)
    finish(Store(store))  # made again: another time, so another seal
    record = json.loads((cells(store)[0] / "record.json").read_text())
    kept = json.loads((cells(artifacts)[0] / "record.json").read_text())
    assert record["fingerprint"] == kept["fingerprint"] and record["seal"] != kept["seal"]
    assert "was made by another run" in refused("archive", *SETTINGS)


def test_verify_looks_at_every_archived_artifact(
    airlab: Airlab,
    artifacts: Path,
    results: Path,  # noqa: F811
) -> None:
    assert "archived" not in airlab("verify", f"results={results}").out
    artifacts.rename(results / "artifacts")
    kept, count = results / "artifacts", len(cells(results / "artifacts"))
    answer = airlab("verify", f"results={results}")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines() == [
        f"{PUBLISHED} at scale smoke: current",
        f"{kept}: {count} of {count} archived artifacts are whole",
    ]
    for folder in cells(kept)[:2]:
        (folder / "records.parquet").write_bytes(b"")
    answer = airlab("verify", f"results={results}")
    assert answer.code == 2
    assert answer.sentence.startswith(f"airlab verify: 2 of {count} archived artifacts are damaged; ")
    assert f"{cells(kept)[1]} is damaged: its file records.parquet has 0 bytes" in answer.out
    assert f"{count - 2} of {count} archived artifacts are whole" in answer.out
    (kept / "stray").touch()
    assert "stray is no archived artifact" in airlab("verify", f"results={results}").sentence
