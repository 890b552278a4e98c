"""Five thousand cells in a table: built, written in every format, read back and verified, each cell once."""

import csv
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from airlab.cli import main
from airlab.cli.experiment import open_published
from airlab.evaluation.records import Record, write_records
from airlab.randomness import generator
from airlab.reporting.findings import Findings, write_findings
from airlab.reporting.frames import results
from airlab.reporting.lock import LOCK, read_lock
from airlab.reporting.tables import Column, Row, Table, TableSpec, build_table
from airlab.schema.machine import Machine
from airlab.stages.evaluate import Evaluate
from airlab.stats.grid import arrange, paired_difference
from airlab.store.stage import Workdir
from airlab.store.store import Store
from experiments.attention_influence.comparison import table_spec
from tests.faults.ledger import FULL, count
from tests.unit.cli.conftest import Airlab, airlab

__all__ = ["airlab"]

VARIANTS, COLUMNS = (100, 50) if FULL else (20, 15)
SEEDS_PER_CELL, ITEMS = 3, 6
RUNS_PER_ARM = 143 if FULL else 20
NAME, SCALE = "attention_influence/main", "smoke"


def planted(variant: int, column: int) -> float:
    """The mean of a cell's records, of two digits: three are shown, so rounding has no say."""
    return (1 + (variant * 31 + column * 7) % 64) / 100


def records_of(variant: int, columns: int) -> list[Record]:
    found = []
    for column in range(columns):
        noise = generator(0, variant, column).normal(size=(SEEDS_PER_CELL, ITEMS))
        values = noise - noise.mean() + planted(variant, column)
        for (seed, item), value in np.ndenumerate(values):
            found.append(Record(f"task{column}", "1", f"i{item}", None, seed, "acc", float(value), True))
    return found


def made(variants: int, columns: int, resamples: int) -> Table:
    spec = TableSpec(
        title="Many cells",
        rows=tuple(Row(f"v{i}", f"variant {i}") for i in range(variants)),
        columns=tuple(Column(f"task{i}", "acc", True, f"task {i}") for i in range(columns)),
        seeds=tuple(range(SEEDS_PER_CELL)),
        reference="v1",
        baseline="v0",
        resamples=resamples,
    )
    return build_table(spec, {f"v{i}": records_of(i, columns) for i in range(variants)})


def test_a_table_of_many_cells_is_the_same_in_every_format(tmp_path: Path) -> None:
    cells = VARIANTS * COLUMNS
    write_findings(tmp_path, Findings(made(VARIANTS, COLUMNS, 2000 if FULL else 200)))
    kept = json.loads((tmp_path / "estimates.json").read_text())["cells"]
    means = {(int(c["variant"][1:]), int(c["task"][4:])): c["value"]["value"] for c in kept}
    assert len(kept) == len(means) == cells
    assert all(mean == pytest.approx(planted(*cell), abs=1e-9) for cell, mean in means.items())
    with (tmp_path / "table.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    quantities = [line["quantity"] for line in lines]
    assert quantities.count("value") == cells
    assert quantities.count("difference") == quantities.count("difference_to_v0") == cells - COLUMNS
    frame = results(tmp_path)
    assert (frame.quantity == "value").sum() == cells
    assert (frame.quantity == "difference").sum() == 2 * (cells - COLUMNS)
    page = (tmp_path / "table.md").read_text()
    (values, *differences) = (x for x in page.splitlines() if x.startswith("| variant 7 |"))
    assert len(differences) == 2
    told = values.strip("| ").split(" | ")[1:-1]  # after the variant, before the number of seeds
    assert [x.split(" ")[0] for x in told] == [f"{planted(7, c):.3f}" for c in range(COLUMNS)]
    # Tasks in rows and variants side by side, then the same of differences to the reference.
    rows = [x for x in (tmp_path / "table.tex").read_text().splitlines() if re.match(r"task \d+ ", x)]
    assert sum(row.count(" & ") for row in rows) == cells + cells - COLUMNS
    count("load", f"a table of {cells:,} cells in Markdown, CSV, LaTeX and JSON", inputs=cells)


def calls(work: Callable[[], object]) -> int:
    """How many functions it calls: what it costs, the same on every machine."""
    found = 0

    def called(_: object, event: str, __: object) -> None:
        nonlocal found
        found += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        work()
    finally:
        sys.setprofile(before)
    return found


def test_a_table_costs_what_its_cells_cost(tmp_path: Path) -> None:
    def write(variants: int, columns: int) -> None:
        write_findings(tmp_path, Findings(made(variants, columns, 50)))

    write(4, 3)  # imports, and what is kept between calls
    few = calls(lambda: write(6, 5))
    assert calls(lambda: write(24, 5)) < 5 * few
    assert calls(lambda: write(6, 20)) < 5 * few


def test_pairing_looks_at_each_item_a_few_times() -> None:
    class Name(str):
        compared = 0

        def __eq__(self, other: object) -> bool:
            Name.compared += 1
            return str.__eq__(self, other)  # type: ignore[arg-type]

        __hash__ = str.__hash__

    items = 2000
    one, other = (arrange((0, Name(f"i{i}"), None, float(i)) for i in range(items)) for _ in range(2))
    Name.compared = 0
    assert not paired_difference(one, other).values.any()
    assert Name.compared < 10 * items


@pytest.fixture
def many_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The published configurations, whose smallest scale trains every arm with many seeds."""
    folder = tmp_path / "configs"
    shutil.copytree(main.configs_folder(), folder)
    scale = folder / "scale" / f"{SCALE}.yaml"
    text = scale.read_text()
    assert "seeds: [0]" in text
    scale.write_text(text.replace("seeds: [0]", f"seeds: {list(range(RUNS_PER_ARM))}"))
    monkeypatch.setattr(main, "configs_folder", lambda: folder)
    return folder


def test_a_table_of_many_trained_models_is_made_and_verified(
    airlab: Airlab, many_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, bound = open_published(NAME, SCALE)
    columns = table_spec(bound).columns
    cells = module.cells(bound)
    assert len(cells) == 7 * RUNS_PER_ARM

    def evaluate(stage: Evaluate, work: Workdir, machine: Machine) -> None:
        """Records without a model: an item's number, and the seed's."""
        records = [
            Record(
                c.task, "1", f"i{i}", None, stage.seed, c.metric, i + stage.seed / 1024, c.higher_is_better
            )
            for c in columns
            for i in range(2)
        ]
        with work.writing("records.parquet") as output:
            write_records(output, records, {})

    monkeypatch.setattr(Evaluate, "run", evaluate)
    store = Store(tmp_path / "store")
    for cell in cells:
        store.make(cell.evaluation, Machine(device="cpu"))

    experiment = f"experiment={NAME}"
    told = airlab("table", experiment, f"scale={SCALE}")
    assert told.code == 0, told.err
    folder = Path("results") / NAME / SCALE
    estimates = json.loads((folder / "estimates.json").read_text())
    assert len(estimates["cells"]) == 7 * len(columns)
    expected = 0.5 + (RUNS_PER_ARM - 1) / 2 / 1024
    for cell in estimates["cells"]:
        assert cell["value"]["value"] == pytest.approx(expected) and cell["value"]["n_runs"] == RUNS_PER_ARM
    assert set(read_lock(folder).cells) == {cell.name for cell in cells}

    current = airlab("verify")
    assert current.code == 0 and current.out == f"{NAME} at scale {SCALE}: current\n"
    lock = json.loads((folder / LOCK).read_text())
    edited = f"random/seed-{RUNS_PER_ARM - 1}"
    lock["cells"][edited] = "0" * 64
    (folder / LOCK).write_text(json.dumps(lock))
    stale = airlab("verify")
    assert stale.code == 2
    assert stale.out == f"{NAME} at scale {SCALE}: out of date in 1 cells, first {edited}\n"
    count("load", f"a table over {len(cells):,} trained models, made and verified", inputs=len(cells))
