"""One contract for every selector, those of tomorrow included."""

import numpy as np
import pytest

from airlab.errors import UserError
from airlab.selection.selectors import known_selectors, make_selector
from airlab.selection.units import Units

KINDS = list(known_selectors())


def units(count: int = 40, seed: int = 0) -> Units:
    draw = np.random.default_rng(seed)
    n = draw.integers(1, 400, count)
    base = n * draw.uniform(0.5, 4, count)
    words = np.array(["river", "stone", "music", "winter", "garden", "letter"])
    texts = [" ".join(draw.choice(words, k)) for k in n]
    return Units(
        np.array([f"doc-{i}" for i in range(count)], dtype=object),
        draw.choice(["a", "b"], count).astype(object),
        n,
        base,
        base * draw.uniform(1, 2, count),
        n * draw.uniform(0.5, 3, count),
        texts=lambda: texts,
    )


def permuted(u: Units, order: np.ndarray) -> Units:
    names = ("unit_id", "domain", "n_tokens", "loss_sum_base", "loss_sum_ref", "entropy_sum_base")
    texts = u.texts()
    return Units(*(getattr(u, n)[order] for n in names), texts=lambda: [texts[i] for i in order])


def test_the_papers_baselines_are_there():
    assert {"attention_influence", "random", "length", "entropy", "loss_high", "loss_low"} <= set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_finite_deterministic_and_blind_to_order(kind):
    selector, u = make_selector({"kind": kind}), units()
    scores = selector.score(u, seed=1)
    assert scores.dtype == np.float64 and scores.shape == (len(u),)
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores, selector.score(u, seed=1))
    order = np.random.default_rng(5).permutation(len(u))
    np.testing.assert_allclose(selector.score(permuted(u, order), seed=1), scores[order], rtol=1e-12)


def test_directions():
    u = units()
    mean = u.loss_sum_base / u.n_tokens
    best = {k: int(np.argmax(make_selector({"kind": k}).score(u, 0))) for k in KINDS}
    assert best["length"] == np.argmax(u.n_tokens)
    assert best["loss_high"] == np.argmax(mean)
    assert best["loss_low"] == np.argmin(mean)
    assert best["entropy"] == np.argmax(u.entropy_sum_base / u.n_tokens)
    assert best["attention_influence"] == np.argmax(u.loss_sum_ref / u.loss_sum_base)


def test_random_ignores_text_and_losses_and_follows_the_seed():
    random = make_selector({"kind": "random"})
    one, other = random.score(units(seed=0), 3), random.score(units(seed=1), 3)
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, random.score(units(seed=0), 4))
    assert 0.35 < np.mean([random.score(units(400), s).mean() for s in range(3)]) < 0.65


def test_a_base_loss_of_zero_is_refused_not_scored():
    u = units()
    u.loss_sum_base[3] = 0.0
    with pytest.raises(UserError, match="base loss of zero"):
        make_selector({"kind": "attention_influence"}).score(u, 0)


def test_unknown_selectors_and_settings_are_named():
    with pytest.raises(UserError, match="known selectors are attention_influence, entropy"):
        make_selector({"kind": "nope"})
    with pytest.raises(UserError, match="it takes kind"):
        make_selector({"kind": "length", "wrong": 1})
