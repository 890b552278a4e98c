"""The audit finds what was planted, and calls unknown what the data do not say."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from airlab.schema.selection import Selecting
from airlab.selection import audit as a

N = 2000
DRAW = np.random.default_rng(0)
DOMAIN = DRAW.choice(["prose", "code", "proofs"], N).astype(object)
IDS = np.array([f"u{i:04d}" for i in range(N)], dtype=object)
LENGTH = DRAW.lognormal(6, 1, N)
REPETITION = DRAW.uniform(0, 1, N)
NOISE = DRAW.normal(0, 1, N)
TOKENS = np.maximum(1, LENGTH.astype(np.int64))
CONFOUNDS = {"length": LENGTH, "repetition": REPETITION}


def association(score: np.ndarray, confound: str) -> a.Association:
    found = a.associations(DOMAIN, {"s": score}, CONFOUNDS)
    return next(f for f in found if f.confound == confound)


def test_spearman_is_scipys() -> None:
    score = np.log(LENGTH) + NOISE
    assert association(score, "length").spearman == pytest.approx(spearmanr(score, LENGTH).statistic)


def test_a_difference_between_domains_is_not_one_within_them() -> None:
    """Code is long and scores high; inside code, and inside prose, length says nothing."""
    long = LENGTH * np.where(DOMAIN == "code", 100, 1)
    score = NOISE + np.where(DOMAIN == "code", 10, 0)
    found = a.associations(DOMAIN, {"s": score}, {"length": long})[0]
    assert found.spearman is not None and found.spearman > 0.5
    assert found.within_domain is not None and abs(found.within_domain) < 0.06
    assert a.eta_squared(DOMAIN, score) > 0.6  # type: ignore[operator]
    assert a.eta_squared(DOMAIN, NOISE) < 0.01  # type: ignore[operator]


def test_a_score_made_of_its_confounds_leaves_nothing() -> None:
    ranks = {name: a.ranks_within(DOMAIN, values) for name, values in CONFOUNDS.items()}
    found = a.remainder("s", DOMAIN, ranks["length"] + 0.5 * ranks["repetition"], CONFOUNDS)
    assert found.r_squared is not None and found.r_squared > 0.97
    free = a.remainder("s", DOMAIN, NOISE, CONFOUNDS)
    assert free.r_squared is not None and free.r_squared < 0.01
    assert free.spearman_left is not None and free.spearman_left > 0.99


def test_partial_correlation_tells_a_cause_from_its_shadow() -> None:
    """The score follows length; a second confound only follows length too."""
    shadow = np.log(LENGTH) + DRAW.normal(0, 0.5, N)
    score = np.log(LENGTH) + DRAW.normal(0, 0.5, N)
    confounds = {"length": LENGTH, "shadow": shadow, "repetition": REPETITION}
    alone = a.associations(DOMAIN, {"s": score}, confounds)[1]
    assert alone.confound == "shadow" and alone.within_domain > 0.6  # type: ignore[operator]
    partial = a.remainder("s", DOMAIN, score, confounds).partial
    assert partial["length"] > 0.6  # type: ignore[operator]
    assert abs(partial["shadow"]) < 0.15  # type: ignore[arg-type]
    assert abs(partial["repetition"]) < 0.06  # type: ignore[arg-type]


def test_partial_correlation_of_one_confound_is_the_correlation() -> None:
    score = np.log(LENGTH) + NOISE
    found = a.remainder("s", DOMAIN, score, {"length": LENGTH})
    within = a.associations(DOMAIN, {"s": score}, {"length": LENGTH})[0].within_domain
    assert found.partial["length"] == pytest.approx(within)
    assert found.r_squared == pytest.approx(within**2)  # type: ignore[operator]


def test_overlap_of_selections() -> None:
    tokens = np.array([10, 20, 30, 40])
    chosen = {
        "x": np.array([True, True, False, False]),
        "y": np.array([False, True, True, True]),
    }
    xy, yx = a.overlaps(chosen, tokens)
    assert (xy.first, xy.second, xy.jaccard, xy.shared_tokens) == ("x", "y", 0.25, pytest.approx(20 / 30))
    assert (yx.first, yx.jaccard, yx.shared_tokens) == ("y", 0.25, pytest.approx(20 / 90))


def test_composition_counts_units_and_tokens_of_each_domain() -> None:
    domain = np.array(["a", "a", "b", "b"], dtype=object)
    found = a.compositions({"x": np.array([True, True, False, False])}, domain, np.array([10, 20, 30, 50]))
    assert found[0] == a.Composition("x", "a", 2, 30, 1.0, 15.0, 15.0)
    assert found[1] == a.Composition("x", "b", 0, 0, 0.0, None, 40.0)


def test_the_whole_audit_of_known_selectors() -> None:
    scores = {"length": LENGTH, "short": -LENGTH, "noise": NOISE}
    found = a.audit(IDS, DOMAIN, TOKENS, scores, CONFOUNDS, Selecting(share=0.2), 5)
    by_pair = {(o.first, o.second): o for o in found.overlaps}
    assert found.n_units == N and len(by_pair) == 6
    assert by_pair["length", "short"].jaccard == 0
    assert 0.08 < by_pair["length", "noise"].jaccard < 0.15  # by chance 0.2 / 1.8
    length = next(x for x in found.associations if (x.selector, x.confound) == ("length", "length"))
    assert length.spearman == pytest.approx(1) and length.within_domain == pytest.approx(1)
    longest = [c for c in found.compositions if c.selector == "length"]
    assert all(c.mean_tokens > 2 * c.mean_tokens_all for c in longest)  # type: ignore[operator]
    assert sum(c.units for c in longest) == sum(round(0.2 * (d == DOMAIN).sum()) for d in np.unique(DOMAIN))


def test_the_audit_does_not_depend_on_the_order_of_units() -> None:
    scores, order = {"s": np.log(LENGTH) + NOISE, "t": NOISE}, np.random.default_rng(1).permutation(N)
    straight = a.audit(IDS, DOMAIN, TOKENS, scores, CONFOUNDS, Selecting(), 5)
    shuffled = a.audit(
        IDS[order],
        DOMAIN[order],
        TOKENS[order],
        {k: v[order] for k, v in scores.items()},
        {k: v[order] for k, v in CONFOUNDS.items()},
        Selecting(),
        5,
    )
    assert shuffled.intervals == straight.intervals
    assert shuffled.overlaps == straight.overlaps and shuffled.compositions == straight.compositions
    for one, other in zip(straight.remainders, shuffled.remainders, strict=True):
        assert one.r_squared == pytest.approx(other.r_squared)
        assert one.partial == pytest.approx(other.partial)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Two normal columns of correlation r have Spearman's correlation 6 / pi * asin(r / 2)."""
    truth, hits, trials, units = 6 / np.pi * np.arcsin(0.25), 0, 100, 120
    ids = np.array([f"u{i:03d}" for i in range(units)], dtype=object)
    domain = np.array(["a"] * units, dtype=object)
    for trial in range(trials):
        draw = np.random.default_rng(trial)
        x = draw.normal(0, 1, units)
        y = 0.5 * x + np.sqrt(0.75) * draw.normal(0, 1, units)
        found = {i.statistic: i for i in a.intervals(ids, domain, {"s": y}, {"length": x}, 100)}
        assert set(found) == {"spearman", "within_domain", "partial"}
        hits += found["spearman"].low <= truth <= found["spearman"].high  # type: ignore[operator]
    assert 0.88 <= hits / trials <= 0.99  # 0.95, give or take three standard errors


def test_an_interval_that_a_resample_leaves_open_is_unknown() -> None:
    ids, domain = np.array(["a", "b", "c"], dtype=object), np.array(["x"] * 3, dtype=object)
    found = a.intervals(ids, domain, {"s": np.arange(3.0)}, {"length": np.arange(3.0)}, 40)
    assert {(i.low, i.high) for i in found} == {(None, None)}


def test_what_the_data_do_not_say_is_unknown() -> None:
    constant = np.ones(N)
    found = a.associations(DOMAIN, {"s": constant}, CONFOUNDS)
    assert all(f.spearman is None and f.within_domain is None for f in found)
    nothing = a.remainder("s", DOMAIN, constant, CONFOUNDS)
    assert nothing == a.Remainder("s", None, None, {"length": None, "repetition": None}, None)
    dull = a.remainder("s", DOMAIN, NOISE, {**CONFOUNDS, "dull": constant})
    assert dull.partial["dull"] is None and dull.r_squared is not None
    two = np.arange(2.0)
    assert a.correlation(two, two) is None
    assert a.eta_squared(np.array(["x", "y"], dtype=object), two) is None
