"""Neither too easy nor too hard: a band of the base model's loss."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from airlab.selection.ranks import ranks_within
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class LossBand(SelectorBase):
    """Nearness of the mean loss to a quantile of its domain.

    Marion et al. (arXiv 2309.04564) prune a pretraining corpus to the middle of the perplexity
    distribution. Perplexity is the exponential of the loss, so bands of ranks are the same for both.
    Deviates: a domain's quantiles instead of the corpus', and the width follows from the share.
    """

    kind: Literal["loss_band"]
    centre: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The quantile around which units are taken; 0 is the easiest unit, 1 the hardest."""

    def score(self, units: Units, seed: int) -> np.ndarray:
        return -np.abs(ranks_within(units.domain, units.loss_sum_base / units.n_tokens) - self.centre)


SELECTORS = (LossBand,)
