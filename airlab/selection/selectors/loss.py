"""The base model's own loss, in both directions (perplexity filtering).

Perplexity is the exponential of the loss, so both rank alike. CCNet (Wenzek et al., arXiv 1911.00359) keeps
what an n-gram model of Wikipedia finds easy; Marion et al. (arXiv 2309.04564) compare the lowest, the middle
(`loss_band`) and the highest perplexities of language models; the overall loss is a baseline that AIR
(arXiv 2512.13279) names. Deviates: the loss is the base model's, in its tokens, and what is taken is the best
share of each domain, not what is below or above a threshold for the whole corpus.
"""

from typing import ClassVar, Literal

import numpy as np

from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class LossHigh(SelectorBase):
    """Mean loss, nats a token: the documents the base model finds hardest."""

    ALONE: ClassVar[bool] = True
    kind: Literal["loss_high"]

    def score(self, units: Units, seed: int) -> np.ndarray:
        return units.loss_sum_base / units.n_tokens


class LossLow(SelectorBase):
    """Minus the mean loss: the documents the base model finds easiest."""

    ALONE: ClassVar[bool] = True
    kind: Literal["loss_low"]

    def score(self, units: Units, seed: int) -> np.ndarray:
        return -units.loss_sum_base / units.n_tokens


SELECTORS = (LossHigh, LossLow)
