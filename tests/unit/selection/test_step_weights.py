"""Weights of steps: monotone in the score, of mean one, blind to the order, plain where scores are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from airlab.errors import UserError
from airlab.schema.step_weights import (
    ClippedWeights,
    LinearWeights,
    RankWeights,
    SoftmaxWeights,
    StepWeights,
    TopShareWeights,
)
from airlab.selection.step_weights import check_weights, step_weights

SCOPES = ("trace", "corpus")
SPECS = [
    spec
    for scope in SCOPES
    for spec in (
        LinearWeights(kind="linear", scope=scope),
        LinearWeights(kind="linear", scope=scope, floor=0.3),
        SoftmaxWeights(kind="softmax", scope=scope, temperature=0.5),
        RankWeights(kind="rank", scope=scope, floor=0.2),
        ClippedWeights(kind="clipped", scope=scope, lower=0.2, upper=0.7),
        TopShareWeights(kind="top_share", scope=scope, share=0.4),
    )
]
EACH = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind}-{spec.scope}")

finite = st.floats(-1e6, 1e6, allow_subnormal=False)


@st.composite
def corpora(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps of up to five traces with repeated scores now and then."""
    size = draw(st.integers(1, 30))
    few = draw(st.lists(finite, min_size=1, max_size=4))
    scores = draw(st.lists(st.one_of(finite, st.sampled_from(few)), min_size=size, max_size=size))
    tokens = draw(st.lists(st.integers(1, 500), min_size=size, max_size=size))
    traces = draw(st.lists(st.sampled_from("abcde"), min_size=size, max_size=size))
    return np.array(traces), np.array(tokens), np.array(scores)


def scopes(trace: np.ndarray, scope: str) -> list[np.ndarray]:
    return [trace == name for name in np.unique(trace)] if scope == "trace" else [np.ones(len(trace), bool)]


@EACH
@settings(max_examples=60, deadline=None)
@given(corpus=corpora())
def test_the_mean_over_tokens_is_one_in_every_scope(spec: StepWeights, corpus: tuple) -> None:
    trace, tokens, score = corpus
    weights = step_weights(trace, tokens, score, spec)
    assert (weights >= 0).all()
    for members in scopes(trace, spec.scope):
        mean = (tokens * weights)[members].sum() / tokens[members].sum()
        assert mean == pytest.approx(1, abs=1e-12)


@EACH
@settings(max_examples=60, deadline=None)
@given(corpus=corpora())
def test_a_higher_score_never_weighs_less_and_equal_scores_weigh_the_same(
    spec: StepWeights, corpus: tuple
) -> None:
    trace, tokens, score = corpus
    weights = step_weights(trace, tokens, score, spec)
    for members in scopes(trace, spec.scope):
        order = np.argsort(score[members])
        ordered, values = weights[members][order], score[members][order]
        assert (np.diff(ordered) >= 0).all()
        assert (np.diff(ordered)[np.diff(values) == 0] == 0).all()


@EACH
@settings(max_examples=60, deadline=None)
@given(corpus=corpora(), seed=st.integers(0, 99))
def test_the_order_of_the_rows_does_not_matter_to_the_last_bit(
    spec: StepWeights, corpus: tuple, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(corpus[0]))
    shuffled = step_weights(*(column[order] for column in corpus), spec)
    assert (shuffled == step_weights(*corpus, spec)[order]).all()


@EACH
@settings(max_examples=30, deadline=None)
@given(corpus=corpora(), value=st.floats(-1e300, 1e300))
def test_a_uniform_score_weighs_exactly_one(spec: StepWeights, corpus: tuple, value: float) -> None:
    trace, tokens, score = corpus
    assert (step_weights(trace, tokens, np.full(len(score), value), spec) == 1.0).all()


@EACH
def test_different_scores_do_weigh_differently(spec: StepWeights) -> None:
    trace, tokens = np.array(["a"] * 6 + ["b"] * 6), np.arange(1, 13)
    score = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6] * 2) + np.repeat([0, 10], 6)
    weights = step_weights(trace, tokens, score, spec)
    assert weights[5] > weights[0] or (spec.scope == "corpus" and weights[11] > weights[0])
    assert len(set(weights)) > 1


def test_within_a_trace_another_trace_changes_nothing() -> None:
    trace, tokens, score = np.array(["a", "a", "b"]), np.array([3, 1, 2]), np.array([0.0, 2.0, 7.0])
    for spec in (LinearWeights(kind="linear"), RankWeights(kind="rank"), ClippedWeights(kind="clipped")):
        alone = step_weights(trace[:2], tokens[:2], score[:2], spec)
        assert (step_weights(trace, tokens, score, spec)[:2] == alone).all()
        assert step_weights(trace, tokens, score, spec)[2] == 1.0


def test_the_mask_keeps_its_share_of_tokens_and_all_that_tie() -> None:
    trace, tokens = np.array(["a"] * 4), np.array([10, 10, 10, 10])
    spec = TopShareWeights(kind="top_share", share=0.25)
    assert step_weights(trace, tokens, np.array([1.0, 4.0, 2.0, 3.0]), spec).tolist() == [0, 4, 0, 0]
    assert step_weights(trace, tokens, np.array([1.0, 4.0, 4.0, 3.0]), spec).tolist() == [0, 2, 2, 0]
    whole = TopShareWeights(kind="top_share", share=1.0)
    assert step_weights(trace, tokens, np.array([1.0, 4.0, 4.0, 3.0]), whole).tolist() == [1, 1, 1, 1]


def test_the_temperature_is_in_spreads_of_the_score() -> None:
    trace, tokens, score = np.array(["a"] * 3), np.array([1, 2, 3]), np.array([0.2, 0.5, 0.9])
    spec = SoftmaxWeights(kind="softmax", temperature=0.7)
    weights = step_weights(trace, tokens, score, spec)
    assert step_weights(trace, tokens, 1000 * score - 5, spec) == pytest.approx(weights)
    assert np.log(weights[2] / weights[0]) == pytest.approx(
        (score[2] - score[0])
        / (0.7 * np.sqrt(np.average((score - np.average(score, weights=tokens)) ** 2, weights=tokens)))
    )


def test_extreme_scores_stay_finite() -> None:
    trace, tokens, score = np.array(["a"] * 3), np.array([1, 1, 1]), np.array([-1.5e308, 0.0, 1.5e308])
    for spec in SPECS:
        if spec.kind != "softmax":
            assert np.isfinite(step_weights(trace, tokens, score, spec)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_refused_by_trace(bad: float) -> None:
    with pytest.raises(UserError, match=r"1 step\(s\) have a score .*trace b"):
        step_weights(np.array(["a", "b"]), np.array([1, 1]), np.array([0.0, bad]), SPECS[0])


def test_no_steps_and_steps_without_tokens_are_refused() -> None:
    with pytest.raises(UserError, match="no steps to weigh"):
        step_weights(np.array([], str), np.array([], int), np.array([]), SPECS[0])
    with pytest.raises(UserError, match="have no tokens"):
        step_weights(np.array(["a"]), np.array([0]), np.array([1.0]), SPECS[0])


@pytest.mark.parametrize(
    ("weights", "said"),
    [([1.0, np.nan], "not finite"), ([1.0, -0.5], "negative .*-0.5"), ([0.0, 0.0], "all weights are zero")],
)
def test_weights_that_cannot_be_normalised_with_are_refused(weights: list[float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_weights(np.array([1, 2]), np.array(weights))


def test_usable_weights_pass() -> None:
    check_weights(np.array([1, 2]), np.array([0.0, 1.5]))


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "softmax", "temperature": 0.0},
        {"kind": "softmax", "temperature": float("nan")},
        {"kind": "clipped", "lower": 0.6, "upper": 0.5},
        {"kind": "top_share", "share": 0.0},
        {"kind": "linear", "floor": -0.1},
        {"kind": "linear", "scope": "domain"},
        {"kind": "cubic"},
        {"kind": "rank", "temperature": 1.0},
    ],
)
def test_bad_specifications_are_refused(spec: dict) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(StepWeights).validate_python(spec)
