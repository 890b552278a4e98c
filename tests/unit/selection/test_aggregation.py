"""Scores of traces from their steps' losses, against loops that spell the definitions out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airlab.errors import UserError
from airlab.schema.traces import Aggregation
from airlab.scoring.influence import attention_influence
from airlab.selection.aggregation import StepLosses, group_by_trace, step_influence, trace_scores

KINDS = ("trace", "token_mean", "step_mean", "maximum", "top_k_mean")

step = st.tuples(
    st.sampled_from(["b", "a", "c#1", "ä"]), st.integers(1, 50), st.floats(0.001, 200), st.floats(0.001, 200)
)


def columns(rows: list[tuple[str, int, float, float]]) -> StepLosses:
    parent, n, base, ref = zip(*rows, strict=True)
    return StepLosses(np.array(parent, dtype=object), np.array(n), np.array(base), np.array(ref))


def slowly(rows: list[tuple[str, int, float, float]], kind: str, k: int, least: float) -> dict[str, float]:
    found = {}
    for name in dict.fromkeys(parent for parent, *_ in rows):
        own = [(n, base, ref) for parent, n, base, ref in rows if parent == name]
        scores = sorted(((ref - base) / max(base, least * n) for n, base, ref in own), reverse=True)
        n, base, ref = (sum(column) for column in zip(*own, strict=True))
        if kind == "trace":
            found[name] = (ref - base) / max(base, least * n)
        elif kind == "token_mean":
            found[name] = sum(m * (r - b) / max(b, least * m) for m, b, r in own) / n
        elif kind == "step_mean":
            found[name] = sum(scores) / len(scores)
        else:
            best = scores[: 1 if kind == "maximum" else k]
            found[name] = sum(best) / len(best)
    return found


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(step, min_size=1, max_size=20), k=st.integers(1, 6), least=st.sampled_from([0.0, 0.01, 3.0])
)
@pytest.mark.parametrize("kind", KINDS)
def test_each_aggregation_is_its_definition(
    kind: str, rows: list[tuple[str, int, float, float]], k: int, least: float
) -> None:
    ids, scores = trace_scores(columns(rows), Aggregation(kind=kind, k=k, least_loss=least))  # type: ignore[arg-type]
    expected = slowly(rows, kind, k, least)
    assert ids.tolist() == list(expected), "in the order in which traces first occur"
    np.testing.assert_allclose(scores, list(expected.values()), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_trace_of_one_step_has_the_documents_score_by_any_aggregation(kind: str) -> None:
    rows = [("a", 7, 12.0, 15.0), ("b", 3, 6.0, 5.0)]
    _, scores = trace_scores(columns(rows), Aggregation(kind=kind))  # type: ignore[arg-type]
    steps = columns(rows)
    np.testing.assert_allclose(
        scores, attention_influence(steps.loss_sum_base, steps.loss_sum_ref), rtol=1e-15
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_steps_changes_no_score(kind: str) -> None:
    draw = np.random.default_rng(0)
    rows = [(f"t{draw.integers(5)}", int(draw.integers(1, 9)), *draw.uniform(0.1, 9, 2)) for _ in range(40)]
    aggregation = Aggregation(kind=kind)  # type: ignore[arg-type]
    ids, scores = trace_scores(columns(rows), aggregation)
    shuffled = [rows[i] for i in draw.permutation(40)]
    again = dict(zip(*trace_scores(columns(shuffled), aggregation), strict=True))
    np.testing.assert_allclose([again[i] for i in ids], scores, rtol=1e-12)


def test_aggregations_differ_where_steps_do() -> None:
    rows = [("a", 1, 1.0, 2.0), ("a", 9, 9.0, 9.9), ("a", 10, 5.0, 5.5)]
    scores = {kind: trace_scores(columns(rows), Aggregation(kind=kind, k=2))[1][0] for kind in KINDS}  # type: ignore[arg-type]
    assert scores == pytest.approx(
        {"trace": 2.4 / 15, "token_mean": 0.145, "step_mean": 0.4, "maximum": 1.0, "top_k_mean": 0.55}
    )


def test_a_step_that_is_predicted_for_certain_counts_with_the_least_loss_or_is_refused() -> None:
    steps = columns([("a", 2, 0.0, 1.0), ("a", 4, 4.0, 6.0)])
    assert step_influence(steps, 0.05).tolist() == [10.0, 0.5]
    with pytest.raises(
        UserError, match=r"^1 unit\(s\) have a base loss of zero.* aggregation.least_loss above"
    ):
        step_influence(steps, 0.0)


def test_traces_are_numbered_by_first_occurrence() -> None:
    ids, members = group_by_trace(np.array(["b", "a", "b", "c", "a"]))
    assert ids.tolist() == ["b", "a", "c"] and members.tolist() == [0, 1, 0, 2, 1]
