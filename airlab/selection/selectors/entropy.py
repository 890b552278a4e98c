"""Uncertainty of the base model (one of the baselines that AIR names)."""

from typing import Literal

import numpy as np

from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class Entropy(SelectorBase):
    """Mean entropy of the base model's predictions, nats a token."""

    kind: Literal["entropy"]

    def score(self, units: Units, seed: int) -> np.ndarray:
        return units.entropy_sum_base / units.n_tokens


SELECTORS = (Entropy,)
