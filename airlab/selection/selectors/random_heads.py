"""Is it the retrieval heads, or would any heads do?"""

from typing import Literal

import numpy as np
from pydantic import NonNegativeInt

from airlab.selection.needs import ControlMask
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class RandomHeads(SelectorBase):
    """The influence of random heads, as many in each layer as there are retrieval heads.

    AttentionInfluence (arXiv 2505.07293, Table 6) masks random heads to see what the *model* loses; here
    they make a selector, which the paper lacks. Heads are drawn among those that are not retrieval heads.
    """

    kind: Literal["random_heads"]
    draw: NonNegativeInt = 0
    """Which draw of heads; independent of the experiment's seed, so that a draw costs one pass."""

    def control(self) -> ControlMask:
        return ControlMask(random_draw=self.draw)

    def score(self, units: Units, seed: int) -> np.ndarray:
        return units.influence(self.control())


SELECTORS = (RandomHeads,)
