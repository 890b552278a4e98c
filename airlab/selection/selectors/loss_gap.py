"""AttentionInfluence without its denominator."""

from typing import ClassVar, Literal

import numpy as np

from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class LossGap(SelectorBase):
    """Absolute increase of the mean loss when the retrieval heads are masked, nats a token.

    An ablation of AttentionInfluence (arXiv 2505.07293, Eq. 5), which divides the increase by the base
    loss and so favours what the base model already predicts well.
    """

    ALONE: ClassVar[bool] = True
    kind: Literal["loss_gap"]

    def score(self, units: Units, seed: int) -> np.ndarray:
        return (units.loss_sum_ref - units.loss_sum_base) / units.n_tokens


SELECTORS = (LossGap,)
