"""Does it matter how the retrieval heads are masked?"""

from typing import Literal

import numpy as np

from airlab.selection.needs import ControlMask
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class ZeroMask(SelectorBase):
    """The influence of the retrieval heads when their output is removed.

    AttentionInfluence (arXiv 2505.07293, Appendix C) makes attention uniform instead; RetMask
    (arXiv 2601.11020) removes the output, by zeroing columns of the output projection, which is the same.
    """

    kind: Literal["zero_mask"]

    def control(self) -> ControlMask:
        return ControlMask(mode="zero")

    def score(self, units: Units, seed: int) -> np.ndarray:
        return units.influence(self.control())


SELECTORS = (ZeroMask,)
