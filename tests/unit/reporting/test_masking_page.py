"""The masking check's page: what is paired with what, how sure it is, and what it says of holes."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from airlab.evaluation.records import Record
from airlab.reporting.masking import (
    ARMS,
    COMPARED,
    DRAWN,
    INTACT,
    PAPER,
    RANDOM,
    RETRIEVAL,
    SAME_LAYER,
    Check,
    masking_page,
)
from airlab.reporting.pages import Page, render_csv, render_page
from airlab.reporting.tables import Column, IncompleteTable
from airlab.stats import multiplicity
from airlab.stats.multiplicity import holm

ACC = Column("lookup", "acc", True, "lookup, acc", in_composite=False, chance=0.25)
MARGIN = Column("lookup", "margin", True, "lookup, margin")
BITS = Column("text", "bits_per_byte", False, "text, bits/byte")
DRAWS = (0, 1, 2)
CHECK = Check("Check", (ACC, MARGIN, BITS), frozenset({("lookup", "acc")}), DRAWS, ("A note.",))
ITEMS = 40


def records(arm: str, loss: float, *, draws: tuple[int, ...] = (0,), noise: float = 0.02) -> list[Record]:
    """Items as hard in every arm; `loss` is what an arm loses, and a draw moves it a little."""
    made = []
    for draw in draws:
        random = np.random.default_rng([len(arm), draw])
        hard = np.random.default_rng(1).normal(size=ITEMS)
        moved = loss + 0.05 * draw * (arm in DRAWN)
        values = {
            ACC: (hard < 1 - 2 * moved).astype(float),
            MARGIN: hard - moved + noise * random.normal(size=ITEMS),
            BITS: 2 + hard + moved + noise * random.normal(size=ITEMS),
        }
        for column, row in values.items():
            made += [
                Record(column.task, "v", f"{column.task}-{i}", None, draw, column.metric, float(x),
                       column.higher_is_better)
                for i, x in enumerate(row)
            ]  # fmt: skip
    return made


@pytest.fixture
def found() -> dict[str, list[Record]]:
    return {
        INTACT: records(INTACT, 0.0),
        RANDOM: records(RANDOM, 0.0, draws=DRAWS),
        SAME_LAYER: records(SAME_LAYER, 0.1, draws=DRAWS),
        RETRIEVAL: records(RETRIEVAL, 1.0),
    }


def rows(page: Page, **wanted: str) -> list[dict[str, str]]:
    read = csv.DictReader(io.StringIO(render_csv(page)))
    return [row for row in read if all(row[name] == value for name, value in wanted.items())]


def test_every_arm_has_its_mean_and_random_arms_that_of_their_draws(found: dict[str, list[Record]]) -> None:
    page = masking_page(CHECK, found)
    for arm in ARMS:
        for column in CHECK.columns:
            (row,) = rows(
                page, source="here", quantity="value", task=column.task, metric=column.metric, arm=arm
            )
            values = [r.value for r in found[arm] if (r.task, r.metric) == (column.task, column.metric)]
            assert float(row["value"]) == pytest.approx(np.mean(values))
            assert row["n_draws"] == ("3" if arm in DRAWN else "1") and row["n_items"] == str(ITEMS)
            assert float(row["low"]) < float(row["value"]) < float(row["high"])


def test_a_difference_to_random_arms_pairs_every_draw_with_the_same_run(
    found: dict[str, list[Record]],
) -> None:
    page = masking_page(CHECK, found)
    (row,) = rows(page, quantity="difference", metric="margin", reference=RANDOM)
    of = {
        arm: np.array([r.value for r in found[arm] if r.metric == "margin"]).reshape(-1, ITEMS)
        for arm in (RETRIEVAL, RANDOM)
    }
    difference = of[RETRIEVAL] - of[RANDOM]
    assert float(row["value"]) == pytest.approx(difference.mean()) and row["n_draws"] == "3"
    # As written in the text books: draws and items are crossed, and their interaction counts once.
    draws, items = difference.mean(axis=1), difference.mean(axis=0)
    left = difference - draws[:, None] - items + difference.mean()
    over_draws, over_items = draws.var(ddof=1) / 3, items.var(ddof=1) / ITEMS
    variance = over_draws + over_items - (left**2).sum() / (2 * (ITEMS - 1)) / (3 * ITEMS)
    half = (float(row["high"]) - float(row["low"])) / 2
    assert 2 * np.sqrt(variance) < half < 4.5 * np.sqrt(variance)  # t of about two degrees of freedom: 4.3


def test_a_run_that_is_repeated_gives_no_evidence(found: dict[str, list[Record]]) -> None:
    """With random arms that do not vary between draws, three draws say what one says."""
    same = [replace(r, seed=draw) for draw in DRAWS for r in found[RANDOM] if r.seed == 0]
    one = masking_page(replace(CHECK, draws=(0,)), {**found, RANDOM: same[: len(same) // 3]})
    three = masking_page(CHECK, {**found, RANDOM: same})
    for column in (MARGIN, BITS):
        wide, narrow = (
            rows(page, quantity="difference", task=column.task, metric=column.metric, reference=RANDOM)[0]
            for page in (one, three)
        )
        assert float(narrow["value"]) == pytest.approx(float(wide["value"]))
        for end in ("low", "high"):
            apart = [abs(float(row[end]) - float(row["value"])) for row in (wide, narrow)]
            assert apart[1] == pytest.approx(apart[0], rel=0.1)


def test_the_three_comparisons_and_no_others_are_made(found: dict[str, list[Record]]) -> None:
    page = masking_page(CHECK, found)
    made = {(row["arm"], row["reference"]) for row in rows(page, quantity="difference") if row["p_holm"]}
    assert made == set(COMPARED) == {(RETRIEVAL, INTACT), (RETRIEVAL, RANDOM), (RETRIEVAL, SAME_LAYER)}
    tested = [row for row in rows(page, quantity="difference") if row["arm"] in ARMS]
    assert len(tested) == 3 * (len(CHECK.columns) + 1)


def test_the_composite_turns_every_column_so_that_positive_is_better(found: dict[str, list[Record]]) -> None:
    page = masking_page(CHECK, found)
    (row,) = rows(page, quantity="difference", task="all", arm=RETRIEVAL, reference=INTACT)
    parts = []
    for column in (MARGIN, BITS):
        of = [[r.value for r in found[arm] if r.metric == column.metric] for arm in (RETRIEVAL, INTACT)]
        sign = 1 if column.higher_is_better else -1
        parts.append(sign * (np.mean(of[0]) - np.mean(of[1])) / np.std(of[1], ddof=1))
    assert float(row["value"]) == pytest.approx(np.mean(parts)) and float(row["value"]) < -0.5
    # Each task's part stands beside its difference, so that tasks compare.
    for column, part in zip((MARGIN, BITS), parts, strict=True):
        (row,) = rows(page, quantity="difference", metric=column.metric, reference=INTACT)
        assert float(row["in_spreads"]) == pytest.approx(part)
    assert {len(row) for row in page.csv_rows} == {len(page.csv_header)}


def test_p_values_are_corrected_within_a_comparison_and_over_composites(
    found: dict[str, list[Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    families = []

    def spy(p_values: dict[str, float]) -> dict[str, float]:
        families.append(set(p_values))
        return holm(p_values)

    monkeypatch.setattr(multiplicity, "holm", spy)
    masking_page(CHECK, found)
    tasks = {"lookup/acc", "lookup/margin", "text/bits_per_byte"}
    assert families == [tasks, tasks, tasks, {f"{arm} - {reference}" for arm, reference in COMPARED}]


def test_what_is_not_told_apart_names_what_would_have_been(found: dict[str, list[Record]]) -> None:
    alike = {**found, RETRIEVAL: records("another intact", 0.0, noise=0.3)}
    section = masking_page(CHECK, alike).sections[1]
    assert section.title == "Retrieval heads masked minus intact"
    by_task = {row[0]: row for row in section.rows}
    assert 0 < float(by_task["lookup, margin ↑"][4]) < 0.5
    told = {row[0]: row for row in masking_page(CHECK, found).sections[1].rows}
    assert told["lookup, margin ↑"][3:] == ("< 0.001", "")


def test_each_draw_is_also_shown_alone(found: dict[str, list[Record]]) -> None:
    """One draw that breaks the model is seen as what it is, and not only as a mean and a wide interval."""
    found[SAME_LAYER] = [
        replace(r, value=r.value - 3 if r.higher_is_better else r.value + 3) if r.seed == 1 else r
        for r in found[SAME_LAYER]
    ]
    page = masking_page(CHECK, found)
    section = page.sections[4]
    shown = {row[0]: float(row[1].split()[0]) for row in section.rows}
    assert len(shown) == 7 and section.title == "Each draw alone, minus intact"
    broken = shown.pop("random heads of the same layers masked, draw 1")
    assert broken < -2.5 and all(value > -1.5 for value in shown.values())
    means = [np.mean([v for name, v in shown.items() if name.startswith("random heads masked")])]
    (row,) = rows(page, quantity="difference", task="all", arm="same_layer, draw 1", reference=INTACT)
    assert float(row["value"]) == pytest.approx(broken, abs=1e-3) and row["n_draws"] == "1"
    assert abs(means[0]) < 0.2


def test_shares_lost_are_of_the_intact_accuracy_with_an_interval(found: dict[str, list[Record]]) -> None:
    page = masking_page(CHECK, found)
    (row,) = rows(page, quantity="share lost", arm=RETRIEVAL)
    of = [np.array([r.value for r in found[arm] if r.metric == "acc"]) for arm in (RETRIEVAL, INTACT)]
    assert float(row["value"]) == pytest.approx(1 - of[0].mean() / of[1].mean())
    # Drawn anew in pairs, many times: what the linearised interval stands for.
    random = np.random.default_rng(0)
    draws = [random.integers(0, ITEMS, ITEMS) for _ in range(4000)]
    low, high = np.quantile([1 - of[0][d].mean() / of[1][d].mean() for d in draws], [0.025, 0.975])
    assert float(row["low"]) == pytest.approx(low, abs=0.05)
    assert float(row["high"]) == pytest.approx(high, abs=0.05)


def test_nothing_to_lose_is_unknown_and_so_is_a_composite_without_a_unit(
    found: dict[str, list[Record]],
) -> None:
    for arm in ARMS:
        found[arm] = [
            replace(r, value=0.0) if r.metric == "acc" or (arm == INTACT and r.task == "text") else r
            for r in found[arm]
        ]
    page = masking_page(CHECK, found)
    assert {row["value"] for row in rows(page, quantity="share lost")} == {""}
    assert {row[1] for s in page.sections[1:4] for row in s.rows if row[0].startswith("all")} == {"unknown"}
    assert page.sections[-1].rows[-1][5:] == ("unknown",) * 3


def test_the_papers_numbers_stand_as_printed_beside_ours(found: dict[str, list[Record]]) -> None:
    section = masking_page(CHECK, found).sections[-1]
    by_task = {row[0]: row[1:] for row in section.rows}
    assert by_task["BBH, paper"] == ("0.317", "0.301", "-", "0.043", "5.0 %", "-", "86.4 %")
    assert by_task["WinoGrande, paper"][4:] == ("-0.2 %", "-", "4.3 %")
    assert len(section.rows) == len(PAPER) + 1 == 11
    assert section.rows[-1][0] == "lookup, acc ↑ (chance 0.25), here"


def test_the_same_benchmark_stands_below_the_papers(found: dict[str, list[Record]]) -> None:
    column = replace(ACC, task="GPQA", label="GPQA, acc")
    check = replace(CHECK, columns=(column, BITS), accuracies=frozenset({("GPQA", "acc")}))
    renamed = {
        arm: [replace(r, task="GPQA") if r.metric == "acc" else r for r in some]
        for arm, some in found.items()
    }
    names = [row[0] for row in masking_page(check, renamed).sections[-1].rows]
    assert names[names.index("GPQA, paper") + 1].startswith("GPQA, acc") and len(names) == 11


@pytest.mark.parametrize(
    ("arm", "kept", "hole"),
    [(RETRIEVAL, (), "retrieval x lookup/acc"), (RANDOM, (0, 2), "random x lookup/acc x draw 1")],
)
def test_a_hole_is_refused_unless_asked_for_and_then_shown(
    found: dict[str, list[Record]], arm: str, kept: tuple[int, ...], hole: str
) -> None:
    holed = {**found, arm: [r for r in found[arm] if r.seed in kept]}
    with pytest.raises(IncompleteTable, match=hole):
        masking_page(CHECK, holed)
    page = masking_page(CHECK, holed, partial=True)
    column = 1 + list(ARMS).index(arm)
    for row in page.sections[0].rows:
        assert row[column] == "missing" and "missing" not in (*row[:column], *row[column + 1 :])
    assert "missing" in render_page(page)


def test_arms_with_other_items_or_versions_are_refused(found: dict[str, list[Record]]) -> None:
    other = [replace(r, task_version="w") for r in found[RETRIEVAL]]
    with pytest.raises(ValueError, match="different versions"):
        masking_page(CHECK, {**found, RETRIEVAL: other})
    other = [replace(r, item_hash=r.item_hash.replace("-0", "-x")) for r in found[RETRIEVAL]]
    with pytest.raises(ValueError, match="unpaired"):
        masking_page(CHECK, {**found, RETRIEVAL: other})


def test_the_page_is_the_same_every_time(found: dict[str, list[Record]]) -> None:
    turned = {arm: some[::-1] for arm, some in reversed(found.items())}
    assert masking_page(CHECK, found) == masking_page(CHECK, turned)
