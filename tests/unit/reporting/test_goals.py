"""The page of two goals: what each composite is over, and that both are one family."""

from dataclasses import replace

import pytest

from airlab.evaluation.records import Record
from airlab.randomness import generator
from airlab.reporting.goals import goals_page
from airlab.reporting.tables import Column, IncompleteTable, Row, TableSpec

SPEC = TableSpec(
    title="made",
    rows=(Row("full_pool", "full pool"), Row("random", "random"), Row("one_sided", "one sided")),
    columns=(
        Column("bits_per_byte_prose", "bits_per_byte", False, "prose"),
        Column("key_retrieval", "margin", True, "keys", in_composite=False),
        Column("next_passage", "acc", True, "passages"),
    ),
    seeds=(0, 1, 2),
    resamples=200,
)
LIFT = {"full_pool": 0.0, "random": 0.0, "one_sided": 0.5}
"""Of keys; text loses as much, passages nothing."""


def records(variant: str) -> list[Record]:
    made = []
    for seed in SPEC.seeds:
        for item in range(30):
            hardness = generator(0, "item", item).normal()
            noise = generator(0, variant, seed, item).normal(size=3) * 0.2
            values = (hardness + LIFT[variant], hardness + LIFT[variant], hardness)
            for column, value, by_chance in zip(SPEC.columns, values, noise, strict=True):
                made.append(
                    Record(
                        column.task,
                        "1",
                        f"{column.task}:{item}",
                        None,
                        seed,
                        column.metric,
                        value + by_chance,
                        column.higher_is_better,
                    )
                )
    return made


RECORDS = {row.variant: records(row.variant) for row in SPEC.rows}


def test_an_arm_that_gains_on_one_goal_and_loses_on_the_other_is_told_so() -> None:
    page = goals_page("Two goals", SPEC, RECORDS)
    assert page is not None
    assert [section.title for section in page.sections] == [
        "looking up and reasoning: keys",
        "plain text: prose",
    ]
    outcomes = {(row[0], row[1]): row[-1] for row in page.csv_rows}
    assert outcomes["looking up and reasoning", "one_sided"] == "beat"
    assert outcomes["plain text", "one_sided"] == "lost to"
    assert {outcomes[goal, "full_pool"] for goal, _ in outcomes} == {"did not beat"}
    assert [row[0] for row in page.sections[0].rows] == ["full pool", "one sided"]


def test_both_goals_are_corrected_together() -> None:
    page = goals_page("Two goals", SPEC, RECORDS)
    alone = goals_page("One goal", replace(SPEC, columns=SPEC.columns[1:]), RECORDS)
    assert page is not None and alone is not None

    def p_of(rows: tuple[tuple[str, ...], ...]) -> dict[tuple[str, str], float]:
        return {(row[0], row[1]): float(row[5]) for row in rows}

    both, one = p_of(page.csv_rows), p_of(alone.csv_rows)
    assert len(both) == 4 and len(one) == 2
    assert "Holm-adjusted over all 4 comparisons" in page.foot[0]
    strongest = ("looking up and reasoning", "one_sided")
    # The smallest of two is doubled; of four it comes after the loss on plain text, and is tripled.
    assert both[strongest] == pytest.approx(1.5 * one[strongest])


def test_columns_without_a_goal_make_no_page() -> None:
    assert goals_page("None", replace(SPEC, columns=SPEC.columns[2:]), RECORDS) is None


def test_a_hole_is_refused_unless_part_of_it_is_asked_for() -> None:
    some = {variant: rows for variant, rows in RECORDS.items() if variant != "one_sided"}
    with pytest.raises(IncompleteTable, match="one_sided x "):
        goals_page("Holes", SPEC, some)
    page = goals_page("Holes", SPEC, some, partial=True)
    assert page is not None and page.foot[-1].startswith("Partial: one_sided not finished")
    assert {row[-1] for row in page.csv_rows if row[1] == "one_sided"} == {"missing"}
