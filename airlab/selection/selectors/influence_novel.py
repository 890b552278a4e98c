"""High influence, but nothing twice."""

from typing import Literal

import numpy as np

from airlab.selection.needs import Need, ScoresOf
from airlab.selection.ranks import ranks_within
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units
from airlab.text.ngrams import word_ngrams

_WORDS = 5


class InfluenceNovel(SelectorBase):
    """Another selector's rank within the domain, times the share of the unit's text that is new.

    Ours, after maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998). New are word 5-grams that
    neither occur earlier in the unit nor in any that the other selector ranks higher, over all domains. Near
    duplicates are only the extreme of it: templates and boilerplate share phrases without being copies.

    Hypothesis: influence loses to random on plain text because a fifth chosen by it says the same things over
    and over; a fifth with about as much influence and more text in it does not.
    """

    kind: Literal["influence_novel"]
    of: str = "attention_influence"
    """The selector, by the name of an arm or by its kind."""

    def needs(self) -> tuple[Need, ...]:
        return (ScoresOf(self.of),)

    def score(self, units: Units, seed: int) -> np.ndarray:
        ranks = ranks_within(units.domain, units.measured(ScoresOf(self.of))["score"])
        best_first = np.lexsort((units.unit_id, -ranks))
        texts = units.texts()
        new = np.empty(len(units), dtype=np.float64)
        new[best_first] = shares_of_new_text([texts[i] for i in best_first])
        return ranks * new


def shares_of_new_text(texts: list[str]) -> np.ndarray:
    """The share of each text's word 5-grams that occur nowhere before, in it or in an earlier text.

    Returns:
        float64 [texts]; 1 for a text of fewer than five words.
    """
    numbers: dict[str, int] = {}
    ngrams = [word_ngrams(text, _WORDS, numbers) for text in texts]
    counts = np.array([len(of_text) for of_text in ngrams], dtype=np.int64)
    _, first = np.unique(np.concatenate([*ngrams, np.empty(0, np.uint64)]), return_index=True)
    owner = np.searchsorted(np.cumsum(counts), first, side="right")
    return np.where(counts, np.bincount(owner, minlength=len(texts)) / np.maximum(counts, 1), 1.0)


SELECTORS = (InfluenceNovel,)
