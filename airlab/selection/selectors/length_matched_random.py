"""Random, but as long as what another selector takes: the control for the preference of long documents."""

from typing import Literal

import numpy as np
from pydantic import PositiveInt

from airlab.randomness import derive_seed
from airlab.selection.needs import Need, ScoresOf
from airlab.selection.ranks import length_bins
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class LengthMatchedRandom(SelectorBase):
    """Another selector's scores, dealt out anew among units of one domain and about the same length.

    Whatever share is then selected, within domains or over all of them, holds as many units of each
    length bin as the other selector takes, and nothing else of its choice: subclassification on the
    confound (Cochran 1968). Ours: reviewers of AttentionInfluence (arXiv 2505.07293) asked for a
    length-matched control, which the paper lacks.
    """

    kind: Literal["length_matched_random"]
    of: str = "attention_influence"
    """The selector whose lengths are matched."""
    bins: PositiveInt = 10
    """Bins of equal size a domain; fewer where they would hold less than five units."""

    def needs(self) -> tuple[Need, ...]:
        return (ScoresOf(self.of),)

    def score(self, units: Units, seed: int) -> np.ndarray:
        scores = units.measured(ScoresOf(self.of))["score"]
        draw = np.array([derive_seed(seed, "length-matched", u) for u in units.unit_id.tolist()])
        dealt = np.empty(len(units), dtype=np.float64)
        for alike in length_bins(units.domain, units.n_tokens, units.unit_id, self.bins):
            dealt[alike[np.argsort(draw[alike], kind="stable")]] = np.sort(scores[alike])
        return dealt


SELECTORS = (LengthMatchedRandom,)
