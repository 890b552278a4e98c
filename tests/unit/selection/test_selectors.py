"""Each selector prefers what its paper says it should. What all have in common: test_selector_contract."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from scipy.stats import spearmanr

from airlab.errors import UserError
from airlab.schema.selection import Selecting
from airlab.selection import regression
from airlab.selection.needs import ControlMask, LossesOf, ScoresOf, Statistics
from airlab.selection.select import select
from airlab.selection.selectors import known_selectors, make_selector
from airlab.selection.units import Units
from tests.unit.selection.made_units import CONFIGS, configured, make_units, scored, taken

MODEL = {"kind": "hub", "name": "owner/name", "revision": "a" * 40}


def make(kind: str, **settings: object):
    return make_selector({"kind": kind, **settings})


def influence(u: Units) -> np.ndarray:
    return scored(make("attention_influence"), u)


def test_the_papers_baselines_are_there() -> None:
    assert {"attention_influence", "random", "length", "entropy", "loss_high", "loss_low"} <= set(
        known_selectors()
    )


def test_directions() -> None:
    u = make_units()
    mean = u.loss_sum_base / u.n_tokens
    expected = {
        "length": u.n_tokens,
        "loss_high": mean,
        "loss_low": -mean,
        "entropy": u.entropy_sum_base / u.n_tokens,
        "attention_influence": u.loss_sum_ref / u.loss_sum_base,
        "influence_low": -u.loss_sum_ref / u.loss_sum_base,
        "loss_gap": (u.loss_sum_ref - u.loss_sum_base) / u.n_tokens,
    }
    for kind, values in expected.items():
        np.testing.assert_array_equal(np.argsort(scored(make(kind), u)), np.argsort(values), err_msg=kind)


def test_random_ignores_text_and_losses_and_follows_the_seed() -> None:
    random = make("random")
    one, other = random.score(make_units(seed=0), 3), random.score(make_units(seed=1), 3)
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, random.score(make_units(seed=0), 4))
    assert 0.35 < np.mean([random.score(make_units(400), s).mean() for s in range(3)]) < 0.65


def test_a_base_loss_of_zero_is_refused_not_scored() -> None:
    u = make_units()
    u.loss_sum_base[3] = 0.0
    for kind in ("attention_influence", "influence_low"):
        with pytest.raises(UserError, match="base loss of zero"):
            make(kind).score(u, 0)


def test_the_middle_band_is_the_middle_and_a_quantile_can_be_named() -> None:
    u = make_units(60, domains=("prose",))
    easiest_first = np.argsort(u.loss_sum_base / u.n_tokens)
    for centre, expected in ((0.5, slice(24, 36)), (0.0, slice(0, 12)), (1.0, slice(48, 60))):
        scores = scored(make("loss_band", centre=centre), u)
        assert set(np.argsort(-scores)[:12]) == set(easiest_first[expected])


def test_a_band_of_perplexity_is_the_band_of_loss() -> None:
    u = make_units(60)
    perplexity = np.exp(u.loss_sum_base / u.n_tokens)
    as_if = replace(u, loss_sum_base=perplexity * u.n_tokens)
    np.testing.assert_array_equal(scored(make("loss_band"), u), scored(make("loss_band"), as_if))


@pytest.mark.parametrize("scope", ["domain", "global"])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_length_matched_random_has_the_lengths_of_the_influence_selection(share: float, scope: str) -> None:
    """Influence grows with length here; the control must grow as long, and choose other units."""
    draw = np.random.default_rng(0)
    u = make_units(600)
    u = replace(u, loss_sum_ref=u.loss_sum_base * (1 + u.n_tokens / 400 + draw.uniform(0, 0.5, 600)))
    spec = Selecting(share=share, scope=scope)
    by_influence = select(u.unit_id, u.domain, u.n_tokens, influence(u), spec)
    control = select(u.unit_id, u.domain, u.n_tokens, scored(make("length_matched_random"), u), spec)
    for domain in ("prose", "code"):
        inside = np.flatnonzero(u.domain == domain)
        ordered = inside[np.lexsort((u.unit_id[inside], u.n_tokens[inside]))]
        for alike in np.array_split(ordered, 10):
            assert control[alike].sum() == by_influence[alike].sum()
    everywhere = u.n_tokens.mean()
    assert u.n_tokens[by_influence].mean() > everywhere + 30, "the trap is set"
    assert abs(u.n_tokens[control].mean() - u.n_tokens[by_influence].mean()) < 12
    assert (control & by_influence).sum() < 0.85 * by_influence.sum()


def test_length_matched_random_knows_nothing_of_influence_but_the_lengths() -> None:
    u = make_units(3000, domains=("prose",))  # influence is independent of length
    assert abs(spearmanr(scored(make("length_matched_random"), u), influence(u)).statistic) < 0.06


def test_length_matched_random_follows_the_seed() -> None:
    u, control = make_units(), make("length_matched_random")
    assert not np.array_equal(scored(control, u, 0), scored(control, u, 1))


def test_controls_refuse_losses_under_another_mask() -> None:
    u = make_units()
    zero, one, two = make("zero_mask"), make("random_heads", draw=1), make("random_heads", draw=2)
    assert zero.control() == ControlMask(mode="zero") and one.control() == ControlMask(random_draw=1)
    np.testing.assert_array_equal(scored(one, u), influence(u))
    for selector, control in ((zero, None), (one, None), (one, two.control()), (zero, one.control())):
        with pytest.raises(UserError, match="reference model of its own"):
            selector.score(replace(u, control=control), 0)


def test_repetition_and_compression_find_the_text_that_repeats_itself() -> None:
    draw = np.random.default_rng(0)
    fresh = " ".join("".join(draw.choice(list("abcdefgh"), 6)) for _ in range(200))
    repeated = " ".join([" ".join(fresh.split()[:20])] * 10)
    half = " ".join([*fresh.split()[:100], *fresh.split()[:100]])
    u = replace(make_units(3, domains=("prose",)), texts=lambda: [fresh, repeated, half])
    for kind in ("repetition", "compression"):
        assert np.argsort(scored(make(kind, prefer="high"), u)).tolist() == [0, 2, 1]
        assert np.argsort(scored(make(kind, prefer="low"), u)).tolist() == [1, 2, 0]


def test_dsir_goes_towards_its_target() -> None:
    draw = np.random.default_rng(0)
    words = {"prose": ["river", "stone", "winter"], "code": ["return", "class", "import"]}
    u = make_units(200)
    hidden = draw.choice(["prose", "code"], 200)  # what a text is like, whatever its domain says
    hidden[u.domain == "prose"] = "prose"
    texts = [" ".join(draw.choice(words[h], 30)) for h in hidden]
    u = replace(u, texts=lambda: texts)
    for settings in ({"towards_domain": "prose"}, {"towards_text": "river stone winter " * 5}):
        scores = scored(make("dsir", **settings), u)
        assert scores[hidden == "prose"].min() > scores[hidden == "code"].max()


def test_dsir_resamples_in_proportion_to_the_weights() -> None:
    """Two kinds of text of weight ratio w: with noise the better one wins with probability w / (1 + w)."""
    texts = ["left"] * 3000 + ["right"] * 3000
    target = "left " * 3 + "right"
    u = replace(make_units(6000), texts=lambda: texts)
    noisy = scored(make("dsir", towards_text=target), u)
    exact = scored(make("dsir", towards_text=target, noise=False), u)
    assert exact[0] - exact[-1] > 0 and len(np.unique(exact)) == 2
    wins = np.mean(noisy[:3000] > noisy[3000:])
    ratio = np.exp(exact[0] - exact[-1])
    assert wins == pytest.approx(ratio / (1 + ratio), abs=0.03)


def test_dsir_names_the_domains_there_are() -> None:
    with pytest.raises(UserError, match=r"no domain 'law'.*code, prose"):
        scored(make("dsir", towards_domain="law"), make_units())
    for wrong in ({}, {"towards_domain": "prose", "towards_text": "x"}):
        with pytest.raises(UserError, match="one of towards_domain, towards_text"):
            make("dsir", **wrong)


def test_the_two_model_gap_is_what_the_second_model_does_better() -> None:
    u, selector = make_units(), make("two_model_gap", model=MODEL)
    second = {"n_tokens": u.n_tokens, "loss_sum_base": u.loss_sum_base - np.arange(40) * u.n_tokens}
    seen = replace(u, measured=lambda need: second if need == selector.needs()[0] else {})
    np.testing.assert_allclose(selector.score(seen, 0), np.arange(40))
    other = {**second, "n_tokens": u.n_tokens + 1}
    with pytest.raises(UserError, match="same tokenizer"):
        selector.score(replace(u, measured=lambda need: other), 0)
    assert isinstance(selector.needs()[0], LossesOf)


def test_the_rank_sum_is_blind_to_scales() -> None:
    u = make_units()
    parts = {"a": np.arange(40.0), "b": np.arange(40.0)[::-1] ** 3}
    seen = replace(u, measured=lambda need: {"score": parts[need.name]})
    selector = make("rank_sum", of=["a", "b"])
    assert selector.needs() == (ScoresOf("a"), ScoresOf("b"))
    np.testing.assert_allclose(selector.score(seen, 0), 1.0)  # opposite orders cancel in every domain
    with pytest.raises(UserError, match="of"):
        make("rank_sum", of=["a"])


def test_only_the_best_of_near_duplicates_stays() -> None:
    u = make_units(12, domains=("prose",))
    draw = np.random.default_rng(1)
    texts = [" ".join("".join(draw.choice(list("abcdef"), 5)) for _ in range(60)) for _ in range(12)]
    texts[4] = texts[9] + " and a little more"
    texts[7] = texts[9]
    u = replace(u, texts=lambda: texts, loss_sum_ref=u.loss_sum_base * (2 + np.arange(12) / 10))
    scores = scored(make("deduplicated"), u)
    assert set(np.argsort(scores)[:2]) == {4, 7} and scores[9] == influence(u)[9]
    kept = [i for i in range(12) if i not in (4, 7)]
    np.testing.assert_array_equal(scores[kept], influence(u)[kept])


def test_of_equally_good_copies_the_smaller_id_stays() -> None:
    u = taken(make_units(domains=("prose",)), np.zeros(9, dtype=np.int64))
    u = replace(u, unit_id=np.array([f"doc-{i}" for i in range(9)], dtype=object))
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(9)
        scores = scored(make("deduplicated"), taken(u, order))
        assert order[np.argmax(scores)] == 0 and (scores < scores.max()).sum() == 8


def test_the_residual_does_not_follow_its_confounds_and_keeps_the_rest() -> None:
    draw = np.random.default_rng(0)
    u = make_units(400)
    signal = draw.normal(0, 0.05, 400)
    level = np.where(u.domain == "prose", 0.5, 3.0)
    slope = np.where(u.domain == "prose", 0.3, -0.2)  # each domain has a dependence of its own
    made = level + slope * np.log(u.n_tokens) + signal
    u = replace(u, loss_sum_ref=u.loss_sum_base * (1 + made))
    left = scored(make("attention_influence_residual"), u)
    for domain in ("prose", "code"):
        inside = u.domain == domain
        assert abs(spearmanr(influence(u)[inside], u.n_tokens[inside]).statistic) > 0.8
        assert abs(np.corrcoef(left[inside], np.log(u.n_tokens[inside]))[0, 1]) < 1e-6
        assert spearmanr(left[inside], signal[inside]).statistic > 0.97
        assert left[inside].mean() == pytest.approx(0, abs=1e-9)
    assert make("attention_influence_residual").needs() == (Statistics(),)


def test_the_order_of_rows_does_not_even_reach_the_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regression, "_DIGITS", 17)
    u, order = make_units(400), np.random.default_rng(0).permutation(400)
    left = scored(make("attention_influence_residual"), u)
    np.testing.assert_array_equal(scored(make("attention_influence_residual"), taken(u, order)), left[order])


def test_what_is_explained_wholly_leaves_ties_and_not_rounding() -> None:
    x = np.random.default_rng(0).normal(0, 1, (50, 2))
    np.testing.assert_array_equal(regression.residual(3 + x @ [0.1, -0.7], x), 0.0)


def test_a_domain_too_small_to_fit_has_no_residual() -> None:
    u = taken(make_units(domains=("prose",)), np.arange(3))
    np.testing.assert_array_equal(scored(make("attention_influence_residual"), u), 0.0)


def test_unknown_selectors_and_settings_are_named() -> None:
    with pytest.raises(UserError, match="known selectors are attention_influence, attention_influence_resid"):
        make("nope")
    with pytest.raises(UserError, match="it takes kind"):
        make("length", wrong=1)


def test_files_spell_out_every_setting() -> None:
    """A default that moves in the code must not change what a file of the same words means."""
    for name, selector in configured().items():
        written = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        assert set(written) == set(type(selector).model_fields)
        assert make_selector(selector.model_dump()) == selector
