"""The base model's own loss, in both directions (perplexity filtering)."""

from typing import Literal

import numpy as np

from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class LossHigh(SelectorBase):
    """Mean loss, nats a token: the documents the base model finds hardest."""

    kind: Literal["loss_high"]

    def score(self, units: Units, seed: int) -> np.ndarray:
        return units.loss_sum_base / units.n_tokens


class LossLow(SelectorBase):
    """Minus the mean loss: the documents the base model finds easiest."""

    kind: Literal["loss_low"]

    def score(self, units: Units, seed: int) -> np.ndarray:
        return -units.loss_sum_base / units.n_tokens


SELECTORS = (LossHigh, LossLow)
