"""The longest documents: the confound that influence must be held against."""

from typing import Literal

import numpy as np

from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class Length(SelectorBase):
    """Number of predicted tokens."""

    kind: Literal["length"]

    def score(self, units: Units, seed: int) -> np.ndarray:
        return units.n_tokens.astype(np.float64)


SELECTORS = (Length,)
