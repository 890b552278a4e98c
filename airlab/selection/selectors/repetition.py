"""How much a document repeats itself word for word."""

from typing import Literal

import numpy as np

from airlab.selection.needs import Need, Statistics
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class Repetition(SelectorBase):
    """The share of the document's word 5-grams that it already had, or minus it.

    `low` is the direction of the repetition rules of Gopher (Rae et al., arXiv 2112.11446, Table A1),
    which cut at thresholds over several lengths; `high` is what induction heads are trained by
    ("Mechanistic Data Attribution", ICML 2026): does influence select anything else?
    """

    kind: Literal["repetition"]
    prefer: Literal["high", "low"] = "high"

    def needs(self) -> tuple[Need, ...]:
        return (Statistics(),)

    def score(self, units: Units, seed: int) -> np.ndarray:
        share = units.measured(Statistics())["repetition"]
        return share if self.prefer == "high" else -share


SELECTORS = (Repetition,)
