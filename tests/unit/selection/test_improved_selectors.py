"""The two selectors that mend attention influence: what each takes out of it."""

import numpy as np

from airlab.selection.needs import Need, ScoresOf, Statistics
from airlab.selection.selectors.influence_excess import InfluenceExcess
from airlab.selection.selectors.influence_novel import InfluenceNovel, shares_of_new_text
from airlab.selection.units import Columns, Units

PLAIN = "one two three four five six seven eight nine ten"
OTHER = "alpha beta gamma delta epsilon zeta eta theta iota kappa"


def units(texts: list[str], influence: np.ndarray, others: np.ndarray, repetition: np.ndarray) -> Units:
    count = len(texts)
    n_tokens, base = np.arange(10, 10 + count), np.full(count, 2.0)

    def measured(need: Need) -> Columns:
        return {"repetition": repetition} if isinstance(need, Statistics) else {"score": scores[need]}

    scores: dict[Need, np.ndarray] = {
        ScoresOf("random_heads"): others,
        ScoresOf("attention_influence"): influence,
    }
    return Units(
        np.array([f"d{i:02d}" for i in range(count)], dtype=object),
        np.full(count, "prose", dtype=object),
        n_tokens,
        base,
        base * (1 + influence),
        base,
        texts=lambda: texts,
        measured=measured,
    )


def test_shares_of_new_text_count_every_five_words_where_they_come_first() -> None:
    texts = [PLAIN, OTHER, PLAIN, PLAIN + " " + OTHER, "too short", "", "again " * 9]
    # Ten words have six 5-grams; twenty have sixteen, of which the four over the seam are new. The last text
    # has one 5-gram five times.
    np.testing.assert_allclose(shares_of_new_text(texts), [1, 1, 0, 4 / 16, 1, 1, 1 / 5])


def test_what_a_better_document_said_does_not_count_again_whatever_the_order_of_rows() -> None:
    influence = np.array([0.1, 0.9, 0.5, 0.7])
    texts = [PLAIN, PLAIN, OTHER, PLAIN]
    found = InfluenceNovel(kind="influence_novel").score(
        units(texts, influence, influence, np.zeros(4)), seed=0
    )
    np.testing.assert_allclose(found, [0, 3.5 / 4, 1.5 / 4, 0])


def test_what_other_heads_length_and_repetition_explain_is_gone() -> None:
    draw = np.random.default_rng(0)
    others, repetition, left = (draw.normal(size=40) for _ in range(3))
    length = np.log(np.arange(10, 50))
    explained = np.column_stack([others, repetition, length])
    influence = 5 + explained @ np.array([0.3, 0.2, 0.4]) + 0.1 * left
    found = InfluenceExcess(kind="influence_excess").score(
        units([PLAIN] * 40, influence, others, repetition), seed=0
    )
    np.testing.assert_allclose(explained.T @ found, 0, atol=1e-6)
    assert np.corrcoef(found, left)[0, 1] > 0.9
