"""The other end of AttentionInfluence: what the paper's claim says should help least."""

from typing import ClassVar, Literal

import numpy as np

from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class InfluenceLow(SelectorBase):
    """Minus the attention influence (arXiv 2505.07293, Eq. 5; the paper has no such arm).

    If the score carries the signal that is claimed, this arm is below `random`, not only below the top.
    """

    ALONE: ClassVar[bool] = True
    kind: Literal["influence_low"]

    def score(self, units: Units, seed: int) -> np.ndarray:
        return -units.influence()


SELECTORS = (InfluenceLow,)
