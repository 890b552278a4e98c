"""The control every selector has to beat."""

from typing import ClassVar, Literal

import numpy as np

from airlab.randomness import derive_seed
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class Random(SelectorBase):
    """A draw for each unit from its id and the seed: blind to the text and to the order of units.

    AttentionInfluence (arXiv 2505.07293) has no such arm: it compares with the full pool only.
    """

    ALONE: ClassVar[bool] = True
    kind: Literal["random"]

    def score(self, units: Units, seed: int) -> np.ndarray:
        return np.array([derive_seed(seed, "random-selector", u) / 2**63 for u in units.unit_id.tolist()])


SELECTORS = (Random,)
