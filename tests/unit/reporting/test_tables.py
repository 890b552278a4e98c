import csv
import dataclasses
import io
import json

import numpy as np
import pytest
from rich.console import Console

from airlab.errors import UserError
from airlab.evaluation.records import Record, read_records, write_records
from airlab.randomness import generator
from airlab.reporting.lock import LOCK, read_lock, write_lock
from airlab.reporting.render import print_table, render_csv, render_markdown, write_table
from airlab.reporting.tables import Column, IncompleteTable, Row, TableSpec, build_table, estimates
from airlab.stats.grid import Grid
from airlab.stats.intervals import ITEMS_ONLY, compare
from airlab.stats.multiplicity import holm

SPEC = TableSpec(
    title="Selectors",
    rows=(
        Row("full_pool", "full pool"),
        Row("random", "random"),
        Row("good", "good"),
        Row("same", "same"),
        Row("bad", "bad"),
    ),
    columns=(
        Column("text", "bits_per_byte", False, "text"),
        Column("choice", "margin", True, "choice"),
        Column("choice", "acc", True, "choice acc", in_composite=False, chance=0.25),
    ),
    seeds=(0, 1, 2),
    resamples=300,
)
LIFT = {"full_pool": -0.05, "random": 0.0, "good": 0.4, "same": 0.0, "bad": -0.4}


def record(variant: str, task: str, metric: str, seed: int, item: int, value: float) -> Record:
    return Record(task, "1", f"{task}:{item}", None, seed, metric, value, metric != "bits_per_byte")


def records_of(variant: str, seeds=(0, 1, 2), items: int = 25) -> list[Record]:
    rows = []
    for seed in seeds:
        for item in range(items):
            hardness = generator(0, "item", item).normal()
            noise = generator(0, variant, seed, item).normal(size=2) * 0.2
            better = LIFT[variant] + hardness
            rows.append(record(variant, "text", "bits_per_byte", seed, item, 3 - better + noise[0]))
            rows.append(record(variant, "choice", "margin", seed, item, better + noise[1]))
            rows.append(record(variant, "choice", "acc", seed, item, float(better + noise[1] > 0)))
    return rows


@pytest.fixture(scope="module")
def records() -> dict[str, list[Record]]:
    return {row.variant: records_of(row.variant) for row in SPEC.rows}


def test_verdicts_follow_the_planted_truth_and_directions(records) -> None:
    table = build_table(SPEC, records)
    outcomes = {variant: verdict.outcome for variant, verdict in table.verdicts.items()}
    assert outcomes == {
        "full_pool": outcomes["full_pool"], "good": "beat", "same": "did not beat", "bad": "lost to",
    }  # fmt: skip
    good = table.cells["good", "text", "bits_per_byte"]
    assert good.difference.value < 0 < table.cells["good", "choice", "margin"].difference.value
    assert table.verdicts["good"].composite.value > 0
    assert table.verdicts["same"].detectable > 0
    text = render_markdown(table)
    assert "- same did not beat random: composite" in text and "- good beat random: composite" in text
    assert "- bad lost to random: composite" in text and "would have been found" in text


def test_the_composite_is_the_mean_of_differences_in_the_baselines_item_spread(records) -> None:
    table = build_table(SPEC, records)
    expected = []
    for task, metric, sign in (("text", "bits_per_byte", -1), ("choice", "margin", 1)):
        spread = values_of(records, "full_pool", task, metric).mean(axis=0).std(ddof=1)
        difference = values_of(records, "good", task, metric) - values_of(records, "random", task, metric)
        expected.append(sign * difference.mean() / spread)
    assert table.verdicts["good"].composite.value == pytest.approx(np.mean(expected))


def test_a_column_outside_the_composite_moves_no_verdict(records) -> None:
    without = dataclasses.replace(SPEC, columns=SPEC.columns[:2])
    assert build_table(SPEC, records).verdicts == build_table(without, records).verdicts


def test_another_row_or_order_of_records_changes_no_cell(records) -> None:
    fewer = dataclasses.replace(SPEC, rows=SPEC.rows[:3])
    small, whole = build_table(fewer, records), build_table(SPEC, {v: r[::-1] for v, r in records.items()})
    assert all(whole.cells[key] == cell for key, cell in small.cells.items())


def values_of(records, variant: str, task: str, metric: str) -> np.ndarray:
    found = [r.value for r in records[variant] if (r.task, r.metric) == (task, metric)]
    return np.array(found).reshape(3, 25)


def test_every_arm_is_also_held_against_the_full_pool(records) -> None:
    table = build_table(SPEC, records)
    assert set(table.against_baseline) == {"random", "good", "same", "bad"}
    for row in SPEC.rows:
        for column in SPEC.columns:
            key = (column.task, column.metric)
            cell = table.cells[row.variant, *key]
            if row.variant == "full_pool":
                assert cell.to_baseline is None
                continue
            expected = values_of(records, row.variant, *key) - values_of(records, "full_pool", *key)
            assert cell.to_baseline.value == pytest.approx(expected.mean())
            assert cell.to_baseline.low < cell.to_baseline.value < cell.to_baseline.high
    there, back = table.against_baseline["random"].composite, table.verdicts["full_pool"].composite
    assert there.value == pytest.approx(-back.value) and there.value > 0
    block = render_markdown(table).split("## Difference to full pool at equal tokens\n")[1].split("\n## ")[0]
    rows = [line.split(" | ")[0] for line in block.splitlines() if line.startswith("| ")]
    assert rows == ["| variant", "| ---", "| random", "| good", "| same", "| bad"]


def test_the_two_families_of_p_values_are_corrected_apart(records) -> None:
    table = build_table(SPEC, records)
    for to, contrasts in (("random", table.verdicts), ("full_pool", table.against_baseline)):
        p_values = {}
        for variant in contrasts:
            differences, scales = [], []
            for column in SPEC.columns[:2]:
                own, other, baseline = (
                    values_of(records, v, column.task, column.metric) for v in (variant, to, "full_pool")
                )
                items = tuple(map(str, range(25)))
                differences.append(Grid((0, 1, 2), items, own - other))
                scales.append(baseline.mean(axis=0).std(ddof=1) * (1 if column.higher_is_better else -1))
            p_values[variant] = compare(differences, rng=generator(0), resamples=9, scales=scales).p_value
        expected = holm(p_values)
        assert {v: contrast.p_holm for v, contrast in contrasts.items()} == pytest.approx(expected)


def test_a_table_whose_reference_is_its_baseline_says_everything_once(records) -> None:
    table = build_table(dataclasses.replace(SPEC, reference="full_pool"), records)
    assert render_markdown(table).count("## Difference to") == 1
    quantities = {row["quantity"] for row in csv.DictReader(io.StringIO(render_csv(table)))}
    assert quantities == {"value", "difference", "composite"}


def test_one_seed_says_that_seed_variation_is_unknown(records) -> None:
    table = build_table(dataclasses.replace(SPEC, seeds=(1,)), records)
    text = render_markdown(table)
    assert "one seed (1), so seed variation is unknown" in text
    assert {v.outcome for v in table.verdicts.values()} == {"unknown against"}
    assert "one seed: what another seed would give is unknown." in text and "hierarchical" not in text
    assert "hierarchical bootstrap over 3 seeds (0, 1, 2)" in render_markdown(build_table(SPEC, records))


def test_one_seed_gives_no_number_that_would_need_another(records) -> None:
    table = build_table(dataclasses.replace(SPEC, seeds=(1,)), records)
    contrasts = [*table.verdicts.values(), *table.against_baseline.values()]
    assert len(contrasts) == 8 and all(c.p_holm is None and c.detectable is None for c in contrasts)
    text = render_markdown(table)
    assert text.count("at equal tokens, intervals over items only\n") == 2
    assert "p = " not in text and "found with 80 % probability: " not in text
    assert text.count(" | unknown | unknown |") == 4, "p and detectable of four arms against the full pool"
    sentences = [line for line in text.splitlines() if line.startswith("- ")]
    for sentence in sentences:
        assert "] over items only; Holm-adjusted p and the difference that would" in sentence.replace(
            "\\", ""
        )
        assert "are unknown; one seed" in sentence
    rows = list(csv.DictReader(io.StringIO(render_csv(table))))
    assert {(row["p_holm"], row["detectable"]) for row in rows} == {("", "")}
    assert {row["method"] for row in rows} == {ITEMS_ONLY}
    written = estimates(table)
    assert all(v["p_holm"] is v["detectable"] is None for v in written["verdicts"].values())
    assert "intervals over items only" not in render_markdown(build_table(SPEC, records))


def test_nothing_is_claimed_from_two_seeds(records) -> None:
    # Two seeds leave one degree of freedom: only differences far beyond their spread are found.
    far = {
        variant: [
            dataclasses.replace(r, value=r.value + (1 if r.higher_is_better else -1) * 20 * LIFT[variant])
            for r in those
        ]
        for variant, those in records.items()
    }
    table = build_table(dataclasses.replace(SPEC, seeds=(0, 1)), far)
    assert table.verdicts["good"].p_holm < 0.05 and table.verdicts["bad"].p_holm < 0.05
    text = render_markdown(table)
    assert "- good is not claimed to beat random: composite +" in text
    assert "- bad is not claimed to lose to random: composite -" in text
    assert "2 seeds: nothing is claimed from fewer than 3." in text
    assert "good beat" not in text and "bad lost" not in text


def test_holes_are_listed_or_shown_as_missing(records) -> None:
    holed = {v: r for v, r in records.items() if v != "same"}
    holed["bad"] = [r for r in records["bad"] if not (r.task == "text" and r.seed == 2)]
    with pytest.raises(IncompleteTable) as error:
        build_table(SPEC, holed)
    told = "4 cells have no results: same x all columns x seed 0, 1, 2; bad x text/bits_per_byte x seed 2"
    assert str(error.value) == told
    table = build_table(SPEC, holed, partial=True)
    assert "| same | missing | missing | missing | 3 |" in render_markdown(table)
    assert "bad: no verdict against random, columns are missing." in render_markdown(table)
    assert estimates(table)["verdicts"]["bad"] is None
    rows = list(csv.DictReader(io.StringIO(render_csv(table))))
    same = [row for row in rows if row["variant"] == "same"]
    assert {row["outcome"] for row in same if row["quantity"] == "composite"} == {"missing"}
    assert {row["method"] for row in same} == {"missing"}
    assert all(row["value"] == "" for row in rows if row["variant"] == "same")


def test_results_that_do_not_compare_are_refused(records) -> None:
    other_version = [dataclasses.replace(r, task_version="2") for r in records["good"]]
    with pytest.raises(ValueError, match="different versions of task"):
        build_table(SPEC, {**records, "good": other_version})
    other_items = [dataclasses.replace(r, item_hash=r.item_hash + "x") for r in records["good"]]
    with pytest.raises(ValueError, match="unpaired"):
        build_table(SPEC, {**records, "good": other_items})
    wrong_way = dataclasses.replace(SPEC, columns=(Column("text", "bits_per_byte", True, "text"),))
    with pytest.raises(ValueError, match="wrong way round"):
        build_table(wrong_way, records)
    flat = [dataclasses.replace(r, value=1.0) for r in records["full_pool"]]
    with pytest.raises(UserError, match="score the same in the arm full_pool"):
        build_table(SPEC, {**records, "full_pool": flat})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": SPEC.rows[1:]}, "no row for full_pool"),
        ({"rows": (*SPEC.rows, SPEC.rows[0])}, "two rows"),
        ({"columns": SPEC.columns[2:]}, "one at least in the composite"),
        ({"seeds": ()}, "needs seeds"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SPEC, **change)


def test_names_cannot_break_the_table_or_become_formulas(records) -> None:
    rows = (
        *SPEC.rows[:2],
        Row("good", "a|b\n*c* <b>"),
        Row("=1+1", "=1+1"),
    )
    spec = dataclasses.replace(SPEC, rows=rows, title="[x](y)")
    table = build_table(spec, {**records, "=1+1": records["same"]})
    lines = render_markdown(table).splitlines()
    row = next(line for line in lines if line.startswith("| a"))
    assert row.startswith("| a\\|b \\*c\\* \\<b\\> | ") and lines[0] == "# \\[x\\](y)"
    parsed = list(csv.DictReader(io.StringIO(render_csv(table))))
    assert {r["variant"] for r in parsed} == {"full_pool", "random", "good", "'=1+1"}
    for line in parsed:  # negative numbers stay numbers
        assert line["value"] == "" or isinstance(float(line["value"]), float)


def test_the_csv_holds_the_unrounded_estimates(records) -> None:
    table = build_table(SPEC, records)
    parsed = list(csv.DictReader(io.StringIO(render_csv(table))))
    (line,) = [
        r for r in parsed
        if (r["variant"], r["metric"], r["quantity"]) == ("good", "margin", "difference")
    ]  # fmt: skip
    cell = table.cells["good", "choice", "margin"]
    assert (float(line["value"]), float(line["low"])) == (cell.difference.value, cell.difference.low)
    (line,) = [r for r in parsed if r["variant"] == "good" and r["quantity"] == "composite"]
    assert line["outcome"] == "beat" and line["n_runs"] == "3"
    verdict = table.verdicts["good"]
    assert (float(line["p_holm"]), float(line["detectable"])) == (verdict.p_holm, verdict.detectable)
    (line,) = [r for r in parsed if r["variant"] == "good" and r["quantity"] == "composite_to_full_pool"]
    contrast = table.against_baseline["good"]
    assert (float(line["value"]), float(line["p_holm"])) == (contrast.composite.value, contrast.p_holm)
    assert line["outcome"] == "", "verdicts are those against the reference"


def test_writing_gives_the_three_files_and_the_terminal_shows_the_verdicts(records, tmp_path) -> None:
    table = build_table(SPEC, records)
    write_table(tmp_path, table)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["estimates.json", "table.csv", "table.md"]
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == render_markdown(table)
    assert json.loads((tmp_path / "estimates.json").read_text())["verdicts"]["good"]["outcome"] == "beat"
    console = Console(file=io.StringIO(), width=140)
    print_table(table, console)
    shown = console.file.getvalue()
    assert "Difference to full pool at equal tokens" in shown and "Composites against full pool" in shown
    assert f"{table.against_baseline['good'].detectable:.3f}" in shown
    assert "good beat random" in shown and "Chance: choice acc 0.25." in shown and "[" in shown


def test_records_come_back_as_they_were_written(records, tmp_path) -> None:
    rows = [dataclasses.replace(records["good"][0], cluster="c"), *records["good"][1:5]]
    write_records(tmp_path / "r.parquet", rows, {"lm_eval": "1"})
    assert read_records(tmp_path / "r.parquet") == rows
    write_records(tmp_path / "none.parquet", [], {})
    assert read_records(tmp_path / "none.parquet") == []


MACHINES = [{"cpu": "X/Y (R) 3.0GHz", "cores": 2, "gpus": [], "torch": "2", "stages": 3}]
PROVENANCE = {"python": "3.11.9", "git": {"commit": "a" * 40, "dirty": False}, "cpu": "X/Y (R) 3.0GHz"}


def test_a_lock_comes_back_as_it_was_written(tmp_path) -> None:
    write_lock(tmp_path, {"good x 0": "ab" * 32}, PROVENANCE, MACHINES, {"evaluate": 1.23456}, ["table"])
    lock = read_lock(tmp_path)
    assert lock.cells == {"good x 0": "ab" * 32} and lock.provenance == PROVENANCE
    assert lock.machines == tuple(MACHINES) and lock.pages == ("table",)
    assert lock.wall_s == {"evaluate": 1.235}
    first = (tmp_path / LOCK).read_bytes()
    write_lock(
        tmp_path,
        {"good x 0": "ab" * 32},
        dict(reversed(PROVENANCE.items())),
        MACHINES,
        {"evaluate": 1.23456},
        ["table"],
    )
    assert (tmp_path / LOCK).read_bytes() == first


def test_the_stores_own_provenance_fits_a_lock(tmp_path) -> None:
    from airlab.store.provenance import provenance

    write_lock(tmp_path, {"cell": "0" * 64}, provenance(), [], {}, [])
    assert read_lock(tmp_path).provenance["python"]


@pytest.mark.parametrize(
    ("cells", "provenance", "message"),
    [
        ({}, PROVENANCE, "without cells"),
        ({"a": "abc"}, PROVENANCE, "not 64 hexadecimal"),
        ({"a": "0" * 64}, {"root": "/data/runs/airlab"}, "looks like a path"),
        ({"a": "0" * 64}, {"deep": [{"x": "C:\\Users\\me"}]}, "looks like a path"),
        ({"a at ~/x": "0" * 64}, {}, "looks like a path"),
    ],
)
def test_a_lock_that_says_nothing_or_too_much_is_refused(tmp_path, cells, provenance, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_lock(tmp_path, cells, provenance, [], {}, [])
    assert not (tmp_path / LOCK).exists()
