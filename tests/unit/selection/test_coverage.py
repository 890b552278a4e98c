"""Coverage against the plain greedy algorithm, and what it takes where the answer is known."""

from fractions import Fraction

import numpy as np
import pytest

from airlab.selection.needs import Need, ScoresOf
from airlab.selection.selectors.coverage import Coverage
from airlab.selection.units import Columns, Units


def units(texts: list[str], scores: np.ndarray | None = None, domain: list[str] | None = None) -> Units:
    count = len(texts)

    def measured(need: Need) -> Columns:
        assert need == ScoresOf("attention_influence") and scores is not None
        return {"score": scores}

    ones = np.ones(count)
    return Units(
        np.array([f"d{i:03d}" for i in range(count)], dtype=object),
        np.array(domain or ["prose"] * count, dtype=object),
        np.array([max(1, len(text.split())) for text in texts]),
        ones,
        ones,
        ones,
        texts=lambda: texts,
        measured=measured,
    )


def plain_greedy(texts: list[str], weights: list[Fraction], words: int) -> list[int]:
    """Look at all that is left at every step; of equals the first."""

    def phrases(text: str) -> set[tuple[str, ...]]:
        said = text.split()
        return {tuple(said[i : i + words]) for i in range(len(said) - words + 1)}

    said = [phrases(text) for text in texts]
    covered: set[tuple[str, ...]] = set()

    def adds(unit: int) -> Fraction:
        others = sum(
            (
                weights[other]
                for other in range(len(texts))
                if other != unit
                for _ in said[unit] & said[other] - covered
            ),
            Fraction(0),
        )
        return others / len(said[unit]) if said[unit] else Fraction(0)

    taken: list[int] = []
    while len(taken) < len(texts):
        best = max((unit for unit in range(len(texts)) if unit not in taken), key=lambda u: (adds(u), -u))
        taken.append(best)
        covered |= said[best]
    return taken


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("weighted", [False, True])
def test_units_are_taken_in_the_order_of_the_plain_greedy_algorithm(seed: int, weighted: bool) -> None:
    draw = np.random.default_rng(seed)
    texts = [" ".join(draw.choice(list("abcde"), size=draw.integers(0, 14))) for _ in range(32)]
    scores = draw.permutation(32).astype(float)
    weights = [Fraction(int(2 * score) + 1, 64) if weighted else Fraction(1) for score in scores]
    of = "attention_influence" if weighted else None
    found = Coverage(kind="coverage", of=of, bins=1).score(units(texts, scores), seed=0)
    assert np.argsort(-found).tolist() == plain_greedy(texts, weights, 3)


def test_what_was_said_is_not_said_again_and_what_nobody_shares_comes_last() -> None:
    often, seldom, alone = "one two three four", "five six seven eight", "nine ten eleven twelve"
    texts = [alone, *[often] * 6, *[seldom] * 3]
    found = Coverage(kind="coverage", bins=1).score(units(texts), seed=0)
    first, second = np.argsort(-found)[:2]
    assert texts[first] == often and texts[second] == seldom
    assert found[0] < np.sort(found)[-2]


def test_any_share_has_the_lengths_and_domains_of_the_whole() -> None:
    draw = np.random.default_rng(0)
    lengths = draw.integers(3, 60, size=400)
    texts = [" ".join(draw.choice(list("abcdefgh"), size=n)) for n in lengths]
    domain = ["prose" if i % 4 else "code" for i in range(400)]
    found = Coverage(kind="coverage").score(units(texts, domain=domain), seed=0)
    for share in (0.1, 0.2, 0.5):
        for name in ("prose", "code"):
            members = np.array([d == name for d in domain])
            chosen = members & (found >= np.quantile(found[members], 1 - share))
            edges = np.quantile(lengths[members], np.linspace(0, 1, 6))
            held = np.histogram(lengths[chosen], edges)[0] / np.histogram(lengths[members], edges)[0]
            np.testing.assert_allclose(held, share, atol=0.06)


def test_high_scores_say_what_is_worth_covering() -> None:
    liked, common = "one two three four", "five six seven eight"
    texts = [*[liked] * 4, *[common] * 5]
    scores = np.array([9.0] * 4 + [1.0] * 5)
    taken = {
        of: texts[int(np.argmax(Coverage(kind="coverage", of=of, bins=1).score(units(texts, scores), 0)))]
        for of in (None, "attention_influence")
    }
    assert taken == {None: common, "attention_influence": liked}
