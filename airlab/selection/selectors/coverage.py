"""What many units say, each phrase once."""

import heapq
from collections.abc import Iterator
from typing import Literal

import numpy as np
from pydantic import PositiveInt

from airlab.selection.needs import Need, ScoresOf
from airlab.selection.ranks import length_bins, ranks_within
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units
from airlab.text.ngrams import word_ngrams


class Coverage(SelectorBase):
    """Greedy maximum coverage of the pool's phrases, at the pool's own lengths.

    Ours, after submodular data selection (Wei, Iyer and Bilmes, ICML 2015). A phrase, a word n-gram, is worth
    as much as the other units that hold it, and nothing once a unit that was taken before holds it. Within
    each domain and length bin the next unit is the one that adds most for each of its phrases; all bins are
    taken from at the same pace, so that any share has the lengths of the whole. A unit's score is how early
    it is taken.

    Hypothesis: a chosen fifth loses to a random one on plain text since it holds less of what held-out text
    says (docs/LOG.md, continued pretraining); one that holds more beats random.
    """

    kind: Literal["coverage"]
    of: str | None = None
    """A selector, by the name of an arm or by its kind: a unit then counts as its rank within its domain by
    that selector's score, so that what is covered is what high scores share; otherwise each counts as one."""
    words: PositiveInt = 3
    bins: PositiveInt = 10
    """Length bins of equal size a domain; fewer where they would hold less than five units."""

    def needs(self) -> tuple[Need, ...]:
        return () if self.of is None else (ScoresOf(self.of),)

    def score(self, units: Units, seed: int) -> np.ndarray:
        weights = np.ones(len(units))
        if self.of is not None:
            weights = ranks_within(units.domain, units.measured(ScoresOf(self.of))["score"])
        by_id = np.argsort(units.unit_id)  # sums of floats hang on their order, and no score may on the rows'
        texts = units.texts()
        phrases, ends = _phrases([texts[unit] for unit in by_id], self.words)
        bins = list(length_bins(units.domain[by_id], units.n_tokens[by_id], units.unit_id[by_id], self.bins))
        taken = np.empty(len(units), dtype=np.float64)
        for place, share in _greedy(phrases, ends, weights[by_id], bins):
            taken[by_id[place]] = share
        return -taken


def _phrases(texts: list[str], words: int) -> tuple[np.ndarray, np.ndarray]:
    """Each text's phrases, without repeats, as indices of the pool's distinct ones.

    Returns:
        int64 [phrases of all texts, one text after the other], and where each text's end, int64 [texts].
    """
    numbers: dict[str, int] = {}
    of_texts = [np.unique(word_ngrams(text, words, numbers)) for text in texts]
    _, indices = np.unique(np.concatenate([*of_texts, np.empty(0, np.uint64)]), return_inverse=True)
    return indices, np.cumsum([len(of_text) for of_text in of_texts])


def _greedy(
    phrases: np.ndarray, ends: np.ndarray, weights: np.ndarray, bins: list[np.ndarray]
) -> Iterator[tuple[int, float]]:
    """Every unit as it is taken, with the share of its bin that was taken by then.

    What a unit adds can only fall while others are taken, so a bin's best is found by looking again at those
    that were best before, until one stays ahead of what the next added at its last look (Minoux 1978).
    """
    counts = np.diff(ends, prepend=0)
    worth = np.bincount(phrases, weights=np.repeat(weights, counts))

    def lacking(unit: int) -> float:
        """What the unit adds for each of its phrases, negative, so that a heap has the best first."""
        if not counts[unit]:
            return 0.0
        left = worth[phrases[ends[unit] - counts[unit] : ends[unit]]]
        others = left.sum() - weights[unit] * np.count_nonzero(left)
        return -float(others) / float(counts[unit])

    heaps = [[(lacking(unit), unit) for unit in of_bin.tolist()] for of_bin in bins]
    for heap in heaps:
        heapq.heapify(heap)
    turns = [((turn + 0.5) / len(of_bin), b) for b, of_bin in enumerate(bins) for turn in range(len(of_bin))]
    for share, b in sorted(turns):
        heap = heaps[b]
        while True:
            _, unit = heapq.heappop(heap)
            now = (lacking(unit), unit)
            if not heap or now <= heap[0]:
                break
            heapq.heappush(heap, now)
        worth[phrases[ends[unit] - counts[unit] : ends[unit]]] = 0.0
        yield unit, share


SELECTORS = (Coverage,)
