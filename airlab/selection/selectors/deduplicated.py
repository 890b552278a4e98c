"""Another selector's choice without near duplicates."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from airlab.selection.needs import Need, ScoresOf
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units
from airlab.text.near_duplicates import SeenDocuments


class Deduplicated(SelectorBase):
    """Another selector's scores, with every unit that nearly repeats a better one put last.

    Near duplicates are found by MinHash over word 5-grams, as for the pool (Broder 1997; the web-scale
    recipe is Lee et al., arXiv 2107.06499). Units are looked at from the best score down over all domains,
    so the best of a cluster stays.
    """

    kind: Literal["deduplicated"]
    of: str = "attention_influence"
    """The selector, by the name of an arm or by its kind."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Estimated Jaccard similarity from which two units are one. The pool is clean down to 0.7."""

    def needs(self) -> tuple[Need, ...]:
        return (ScoresOf(self.of),)

    def score(self, units: Units, seed: int) -> np.ndarray:
        scores = units.measured(ScoresOf(self.of))["score"]
        texts, seen = units.texts(), SeenDocuments(self.threshold)
        repeats = np.zeros(len(units), dtype=bool)
        for i in np.lexsort((units.unit_id, -scores)):
            repeats[i] = seen.add(texts[i]) != "new"
        below = 1 + np.ptp(scores)
        return np.where(repeats, scores - below, scores)


SELECTORS = (Deduplicated,)
