"""Step weights against a reference in exact fractions and plain loops, one definition after the other."""

from fractions import Fraction

import numpy as np
import pytest

from airlab.schema.step_weights import (
    ClippedWeights,
    LinearWeights,
    RankWeights,
    SoftmaxWeights,
    StepWeights,
    TopShareWeights,
)
from airlab.selection.step_weights import step_weights


def corpus(seed: int) -> tuple[list[str], list[int], list[float]]:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=60).round(1)  # some tie
    return [f"t{n}" for n in rng.integers(0, 8, 60)], rng.integers(1, 40, 60).tolist(), scores.tolist()


def quantile(tokens: list[int], scores: list[float], share: float) -> float:
    """The least score such that the steps up to it hold the share of the tokens."""
    for value in sorted(scores):
        held = sum(n for n, score in zip(tokens, scores, strict=True) if score <= value)
        if held >= share * sum(tokens):
            return value
    raise AssertionError


def raw(spec: StepWeights, tokens: list[int], scores: list[float], spread: Fraction) -> list[Fraction]:
    exact = [Fraction(score) for score in scores]
    if isinstance(spec, SoftmaxWeights):
        return [
            Fraction(np.exp(float((score - max(exact)) / spread / Fraction(spec.temperature))))
            for score in exact
        ]
    if isinstance(spec, TopShareWeights):
        kept = []
        for score in scores:  # kept unless better steps alone already hold the share
            better = sum(n for n, other in zip(tokens, scores, strict=True) if other > score)
            kept.append(Fraction(int(better < spec.share * sum(tokens))))
        return kept
    if isinstance(spec, RankWeights):
        shares = []
        for score in scores:
            below = sum(other < score for other in scores)
            ties = sum(other == score for other in scores)
            shares.append((Fraction(below) + Fraction(ties, 2)) / len(scores))
    else:
        low, high = min(exact), max(exact)
        if isinstance(spec, ClippedWeights):
            low = Fraction(quantile(tokens, scores, spec.lower))
            high = Fraction(quantile(tokens, scores, spec.upper))
        if low == high:
            return [Fraction(1)] * len(scores)
        shares = [(min(max(score, low), high) - low) / (high - low) for score in exact]
    floor = Fraction(spec.floor)
    return [floor + (1 - floor) * share for share in shares]


def reference(traces: list[str], tokens: list[int], scores: list[float], spec: StepWeights) -> list[float]:
    total = sum(tokens)
    mean = sum(n * Fraction(score) for n, score in zip(tokens, scores, strict=True)) / total
    variance = sum(n * (Fraction(score) - mean) ** 2 for n, score in zip(tokens, scores, strict=True)) / total
    spread = Fraction(float(variance) ** 0.5)
    weights = [Fraction(0)] * len(scores)
    for name in sorted(set(traces)) if spec.scope == "trace" else [None]:
        rows = [row for row in range(len(scores)) if name is None or traces[row] == name]
        found = raw(spec, [tokens[row] for row in rows], [scores[row] for row in rows], spread)
        scale = sum(tokens[row] for row in rows) / sum(
            tokens[row] * value for row, value in zip(rows, found, strict=True)
        )
        for row, value in zip(rows, found, strict=True):
            weights[row] = value * scale
    return [float(weight) for weight in weights]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scope", ["trace", "corpus"])
@pytest.mark.parametrize(
    "make",
    [
        lambda scope: LinearWeights(kind="linear", scope=scope, floor=0.25),
        lambda scope: SoftmaxWeights(kind="softmax", scope=scope, temperature=0.8),
        lambda scope: RankWeights(kind="rank", scope=scope),
        lambda scope: ClippedWeights(kind="clipped", scope=scope, lower=0.15, upper=0.75),
        lambda scope: TopShareWeights(kind="top_share", scope=scope, share=0.35),
    ],
    ids=["linear", "softmax", "rank", "clipped", "top_share"],
)
def test_every_map_is_its_definition(make, scope: str, seed: int) -> None:
    traces, tokens, scores = corpus(seed)
    spec = make(scope)
    found = step_weights(np.array(traces), np.array(tokens), np.array(scores), spec)
    assert found == pytest.approx(reference(traces, tokens, scores, spec), rel=1e-12, abs=1e-12)
