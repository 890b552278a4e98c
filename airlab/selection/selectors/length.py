"""The longest documents: the confound that influence must be held against."""

from typing import ClassVar, Literal

import numpy as np

from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class Length(SelectorBase):
    """Number of predicted tokens.

    AIR (arXiv 2512.13279) names length as a baseline for reasoning traces, and an ablation of s1 (Muennighoff
    et al., arXiv 2501.19393) trains on the longest ones. Deviates: documents, not traces.
    """

    ALONE: ClassVar[bool] = True
    kind: Literal["length"]

    def score(self, units: Units, seed: int) -> np.ndarray:
        return units.n_tokens.astype(np.float64)


SELECTORS = (Length,)
