"""`airlab archive` and `restore`: a table is written where nothing of it was made."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airlab.cli.experiment import ARCHIVE, SELECTIONS
from airlab.reporting.lock import LOCK
from airlab.store.packed import pack, packed_folders, unpacked
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
def file(store: Path, airlab: Airlab) -> Path:
    """An archive of all of it."""
    assert airlab("archive", *SETTINGS).code == 0
    return Path("results") / PLACE / ARCHIVE


def cells(root: Path) -> list[Path]:
    return sorted((root / "evaluate").glob("seed*"))


def archived(file: Path) -> list[str]:
    return sorted(folder.name for folder in packed_folders(file))


def rewrite(file: Path, change: Callable[[Path], object]) -> None:
    """What somebody may do to an archive on its way."""
    with unpacked(file) as folder:
        change(folder)
        pack(folder, file)


def test_a_table_is_the_same_in_a_store_to_which_it_was_carried(
    airlab: Airlab, store: Path, file: Path
) -> None:
    assert airlab("table", *SETTINGS, "results=made").code == 0
    store.rename(store.with_name("far away"))
    assert airlab("table", *SETTINGS, "results=carried").code == 2
    count = len(archived(file))
    answer = airlab("restore")
    assert (answer.code, answer.out) == (0, f"{file}: {count} restored, 0 there already\n")
    assert airlab("table", *SETTINGS, "results=carried").code == 0
    made, carried = Path("made") / PLACE, Path("carried") / PLACE
    names = sorted(path.name for path in made.iterdir())
    assert names == sorted(path.name for path in carried.iterdir()) and "table.csv" in names
    for name in set(names) - {LOCK}:
        assert (made / name).read_bytes() == (carried / name).read_bytes(), name
    locks = [json.loads((folder / LOCK).read_text()) for folder in (made, carried)]
    assert locks[0]["cells"] == locks[1]["cells"] and locks[0]["wall_s"] == locks[1]["wall_s"]
    assert airlab("restore", "results=results").out == f"{file}: 0 restored, {count} there already\n"


def test_writing_a_table_keeps_its_archive_and_what_was_told_of_its_selections(
    airlab: Airlab, file: Path
) -> None:
    before, selections = file.read_bytes(), file.with_name(SELECTIONS)
    assert airlab("table", *SETTINGS, "results=results").code == 0
    assert file.read_bytes() == before
    told = {**json.loads(selections.read_text()), "an arm whose selection is gone": {}}
    selections.write_text(json.dumps(told))
    assert airlab("table", *SETTINGS, "results=results").code == 0
    assert json.loads(selections.read_text()) == told


def test_what_is_not_finished_is_counted_and_added_when_it_is(
    airlab: Airlab, store: Path, whole: Path
) -> None:
    first, *rest = cells(store)
    shutil.rmtree(first)
    answer = airlab("archive", *SETTINGS, "results=kept")
    assert answer.code == 0, answer.err
    told = answer.out.splitlines()
    n, file = len(rest), Path("kept") / PLACE / ARCHIVE
    assert "detect_heads: 0 of 1 finished" in told and f"evaluate: {n} of {n + 1} finished" in told
    assert told[-1].startswith(f"{file}: {n} added, 0 there already, 0 in archives of other tables, 0 let go")
    assert archived(file) == [folder.name for folder in rest]
    before = file.read_bytes()
    again = airlab("archive", *SETTINGS, "results=kept").out.splitlines()
    assert again[-1].startswith(f"{file}: 0 added, {n} there already, ") and file.read_bytes() == before
    shutil.rmtree(store)
    shutil.copytree(whole / "evaluate" / first.name, first)  # a store with nothing but what was missing
    assert airlab("archive", *SETTINGS, "results=kept").out.splitlines()[-1].startswith(f"{file}: 1 added")
    assert archived(file) == [folder.name for folder in (first, *rest)]


def test_an_artifact_is_in_one_archive_and_in_none_when_nothing_asks_for_it(
    airlab: Airlab, store: Path, file: Path
) -> None:
    other = Path("results") / "other" / ARCHIVE
    other.parent.mkdir()
    shutil.copyfile(file, other)
    rewrite(other, lambda folder: [shutil.rmtree(path) for path in cells(folder)[1:]])
    rewrite(file, lambda folder: shutil.rmtree(cells(folder)[0]))
    answer = airlab("archive", *SETTINGS)
    n = len(cells(store))
    told = f"{file}: 0 added, {n - 1} there already, 1 in archives of other tables, 0 let go"
    assert answer.out.splitlines()[-1].startswith(told)
    rewrite(file, lambda folder: cells(folder)[0].rename(folder / "evaluate" / ("seed9-" + "0" * 12)))
    told = f"{file}: 1 added, {n - 2} there already, 1 in archives of other tables, 1 let go"
    assert airlab("archive", *SETTINGS).out.splitlines()[-1].startswith(told)
    assert len(archived(file)) == n - 1


def test_only_the_cells_and_stages_that_are_asked_for_are_archived(airlab: Airlab, store: Path) -> None:
    answer = airlab("archive", *SETTINGS, "only=[random/*]", "stages=[evaluate]")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[0] == "evaluate: 1 of 1 finished" and len(answer.out.splitlines()) == 2
    assert len(archived(Path("results") / PLACE / ARCHIVE)) == 1 < len(cells(store))


def test_an_archive_of_nothing_is_not_written(airlab: Airlab) -> None:
    assert airlab("archive", *SETTINGS).code == 0
    assert not (Path("results") / PLACE / ARCHIVE).exists()


def test_a_stage_that_does_not_exist_is_refused(refused: Refused) -> None:
    told = refused("archive", *SETTINGS, "stages=[evaluate,evalute]")
    assert f"there is no stage 'evalute'; those of {NAME} are " in told and "measure_losses" in told


def test_other_settings_get_an_archive_of_their_own_place(refused: Refused) -> None:
    told = refused("archive", *SETTINGS, "seeds=[7]")
    assert "is not the published configuration" in told and "results=FOLDER" in told


def test_a_damaged_archive_is_refused_and_none_of_it_restored(
    refused: Refused, store: Path, file: Path
) -> None:
    shutil.rmtree(store)
    last = archived(file)[-1]

    def harm(folder: Path) -> None:
        with (folder / "evaluate" / last / "records.parquet").open("r+b") as records:
            records.write(b"?")

    rewrite(file, harm)
    told = refused("restore")
    assert f"{file}: the artifact evaluate/{last} is damaged: its file records.parquet was changed" in told
    assert not store.exists()
    file.write_bytes(file.read_bytes()[:500])
    assert f"{file} is no whole archive" in refused("restore")
    assert f"there is no {ARCHIVE} below nowhere" in refused("restore", results="nowhere")


def test_what_another_run_made_is_not_overwritten(refused: Refused, store: Path, file: Path) -> None:
    before = file.read_bytes()
    shutil.rmtree(store)
    finish(Store(store))  # made again: another time, so another seal
    assert "was made by another run" in refused("archive", *SETTINGS)
    assert file.read_bytes() == before


def test_verify_looks_at_every_archived_artifact(
    airlab: Airlab,
    file: Path,
    results: Path,  # noqa: F811
) -> None:
    assert ARCHIVE not in airlab("verify", f"results={results}").out
    kept, count = results / PLACE / ARCHIVE, len(archived(file))
    kept.parent.mkdir(parents=True)
    file.rename(kept)
    answer = airlab("verify", f"results={results}")
    assert answer.code == 0, answer.err
    told = [f"{PUBLISHED} at scale smoke: current", f"{kept}: {count} artifacts, all whole"]
    assert answer.out.splitlines() == told
    rewrite(kept, lambda folder: (cells(folder)[1] / "records.parquet").write_bytes(b""))
    answer = airlab("verify", f"results={results}")
    assert answer.code == 2
    assert answer.sentence == f"airlab verify: 1 of 1 archives are damaged, first {kept}."
    assert "its file records.parquet has 0 bytes" in answer.out
