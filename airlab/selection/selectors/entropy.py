"""Uncertainty of the base model."""

from typing import ClassVar, Literal

import numpy as np

from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class Entropy(SelectorBase):
    """Mean entropy of the base model's predictions, nats a token.

    A baseline that AIR (arXiv 2512.13279) names, for reasoning traces. Its direction and reduction are not
    known to us: here the most uncertain documents are taken, by the mean over their tokens.
    """

    ALONE: ClassVar[bool] = True
    kind: Literal["entropy"]

    def score(self, units: Units, seed: int) -> np.ndarray:
        return units.entropy_sum_base / units.n_tokens


SELECTORS = (Entropy,)
