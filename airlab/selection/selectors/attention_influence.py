"""AttentionInfluence (arXiv 2505.07293)."""

from typing import ClassVar, Literal

import numpy as np

from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class AttentionInfluence(SelectorBase):
    """Relative increase of the loss when the retrieval heads are masked (Eq. 5)."""

    ALONE: ClassVar[bool] = True
    kind: Literal["attention_influence"]

    def score(self, units: Units, seed: int) -> np.ndarray:
        return units.influence()


SELECTORS = (AttentionInfluence,)
