"""The evidence page says what planted scores are, and unknown where there is nothing to say."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from airlab.reporting.evidence import QUESTIONS, SPOILT, Evidence, evidence_page
from airlab.reporting.pages import Page, render_csv, render_page
from airlab.selection.known_steps import INFLUENCE, KnownSteps, KnownTraces

TRACES = 60
VARIANTS = ("clean", *SPOILT)
SPOILT_KIND = {
    "padded": "padded",
    "redundant": "redundant",
    "wrong_carried": "wrong",
    "wrong_corrected": "wrong",
}


def made(effect: float = 1.0) -> tuple[KnownSteps, KnownTraces]:
    """Six steps a trace: influence is higher in clean steps by `effect`, digits lower, the rest is noise."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(TRACES):
        variant = VARIANTS[number % len(VARIANTS)]
        for step in range(6):
            kind = "answer" if step == 5 else "clean"
            if step in (1, 3):
                kind = SPOILT_KIND.get(variant, "clean")
            level = ("school", "formulas")[number % 2]
            rows.append((f"t{number:02d}", level, f"task-{number // 2}", variant, kind, step != 0))
    trace, level, task, variant, kind, feeds = (np.array(c, dtype=object) for c in zip(*rows, strict=True))
    matters = (kind == "clean").astype(float) + 0.5 * feeds.astype(float)
    steps = KnownSteps(
        trace,
        level,
        task,
        variant,
        kind,
        feeds.astype(bool),
        {
            INFLUENCE: effect * matters + 0.01 * rng.random(len(rows)),
            "digits": -matters,
            "equals": np.zeros(len(rows)),
            "tokens": rng.integers(5, 20, len(rows)).astype(float),
            "loss_gap": rng.normal(size=len(rows)),
            "base_loss": rng.random(len(rows)),
            "random_heads_1": rng.normal(size=len(rows)),
        },
    )
    one = np.arange(0, len(rows), 6)
    traces = KnownTraces(
        trace[one],
        task[one],
        variant[one],
        {
            "influence_trace": (variant[one] == "clean").astype(float),
            "influence_maximum": np.zeros(TRACES),
            "random_heads_1_trace": -(variant[one] == "clean").astype(float),
        },
    )
    return steps, traces


@pytest.fixture(scope="module")
def page() -> Page:
    return evidence_page(Evidence("Does it?", *made(), notes=("A note.",)))


def rows(page: Page, title: str) -> dict[str, tuple[str, ...]]:
    (section,) = [s for s in page.sections if s.title.startswith(title)]
    assert all(len(row) == len(section.headers) for row in section.rows)
    return {row[0]: row[1:] for row in section.rows}


def test_a_perfect_score_is_called_so(page: Page) -> None:
    for question, row in rows(page, "Attention influence of steps").items():
        assert row[0].startswith("1.00"), question
    counts = rows(page, "Attention influence of steps")["clean above padded"][3:]
    assert counts == ("10", "10", "30", "20")


def test_a_reversed_cue_is_turned_and_then_as_good(page: Page) -> None:
    shown = rows(page, "By score: clean above padded")
    assert shown["share of digits"][0].startswith("0.00")
    assert shown["share of digits"][2].startswith("+0.00") and "(turned)" in shown["share of digits"][2]


def test_a_useless_score_is_at_one_half_and_worse(page: Page) -> None:
    shown = rows(page, "By score: clean above padded")
    assert shown["has an equals sign"][0].startswith("0.50")
    assert (
        shown["has an equals sign"][2].startswith("+0.50") and "turned" not in shown["has an equals sign"][2]
    )
    ahead, p_value, detectable = shown["influence of random heads, draw 1"][2:]
    assert ahead.startswith("+") and p_value not in ("", "unknown") and detectable == ""


def test_a_reversed_method_is_not_turned() -> None:
    page = evidence_page(Evidence("Does it?", *made(-1.0)))
    found = rows(page, "Attention influence of steps")
    assert all(row[0].startswith("0.00") for row in found.values())
    assert rows(page, "By score: clean above padded")["share of digits"][2].startswith("-1.00")


def test_levels_kinds_and_whole_traces_are_described(page: Page) -> None:
    assert set(rows(page, "Attention influence within traces")) == {q.title for q in QUESTIONS}
    kinds = rows(page, "Median and quartiles")
    assert kinds["padded"][0] == "20" and kinds["correction"] == ("0", *["unknown"] * 5)
    whole = rows(page, "Whole traces")
    assert all(cell.startswith("1.00") for cell in whole["influence of the whole response"])
    assert all(cell.startswith("0.50") for cell in whole["highest influence of a step"])
    assert all(cell.startswith("0.00") for cell in whole["influence of random heads, draw 1, whole response"])


@pytest.mark.parametrize("gone", ["padded", "wrong"])
def test_where_a_kind_is_missing_the_page_says_unknown(gone: str) -> None:
    steps, traces = made()
    without = replace(steps, kind=np.where(steps.kind == gone, "carried", steps.kind))
    page = evidence_page(Evidence("Does it?", without, traces))
    title = f"clean above {gone}"
    assert rows(page, "Attention influence of steps")[title][:4] == ("unknown", "unknown", "unknown", "0")
    for row in rows(page, f"By score: {title}").values():
        assert row[:2] == ("unknown", "unknown") and set(row[2:]) <= {"unknown", ""}
    assert set(rows(page, "Attention influence within traces")[title]) == {"unknown"}
    assert rows(page, "Attention influence of steps")["clean above redundant"][0].startswith("1.00")
    render_page(page), render_csv(page)


def test_more_questions_make_a_finding_weaker() -> None:
    """Influence's p-value for padded steps is adjusted for every question that can be asked."""
    steps, traces = made()
    rng = np.random.default_rng(5)
    noisy = steps.scores[INFLUENCE] + rng.normal(size=len(steps.trace))
    four = replace(steps, scores={**steps.scores, INFLUENCE: noisy})
    kinds = np.where(np.isin(steps.kind, ("wrong", "redundant")), "carried", steps.kind)
    p_values = []
    for some in (four, replace(four, kind=kinds)):
        page = evidence_page(Evidence("Does it?", some, traces))
        (row,) = [r for r in page.csv_rows if r[:4] == ("auc within traces", "padded", "", INFLUENCE)]
        p_values.append(float(row[8]))
    assert p_values[1] < p_values[0] < 1


def test_the_long_form_holds_every_number(page: Page) -> None:
    found = list(csv.DictReader(io.StringIO(render_csv(page))))
    assert all(len(row) == len(page.csv_header) for row in page.csv_rows)
    (row,) = [
        r
        for r in found
        if (r["quantity"], r["question"], r["score"]) == ("influence minus this", "padded", "digits")
    ]
    assert float(row["value"]) == 0 and row["turned"] == "True"
    areas = [r for r in found if r["quantity"].startswith("auc within") and not r["level"]]
    assert len(areas) == len(QUESTIONS) * 7


def test_joined_steps_are_told(page: Page) -> None:
    assert not any("share a token" in line for line in page.foot) and page.foot[-1] == "A note."
    steps, traces = made()
    told = evidence_page(Evidence("Does it?", replace(steps, joined=3), traces)).foot
    assert any(line.startswith("3 steps share a token") for line in told)
