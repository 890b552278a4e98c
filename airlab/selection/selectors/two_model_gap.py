"""What a second model predicts better than the base model."""

from typing import Literal

import numpy as np

from airlab.errors import UserError
from airlab.schema.models import HubModel
from airlab.selection.needs import LossesOf, Need
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class TwoModelGap(SelectorBase):
    """Mean loss of the base model minus that of a second model, nats a token.

    With a larger model of the same family this is the logarithm of ScalingFilter's quality factor (Li et
    al., arXiv 2408.08310: perplexity of the small over that of the large model), which wants both trained on
    the same data. With a model trained on trusted text it is the excess loss of RHO-1 (Lin et al.,
    arXiv 2404.07965), averaged over a document where RHO-1 selects single tokens. Both models must cut
    texts into the same tokens.
    """

    kind: Literal["two_model_gap"]
    model: HubModel

    def needs(self) -> tuple[Need, ...]:
        return (LossesOf(self.model),)

    def score(self, units: Units, seed: int) -> np.ndarray:
        second = units.measured(LossesOf(self.model))
        if not np.array_equal(second["n_tokens"], units.n_tokens):
            raise UserError(
                f"{self.model.name} cuts the texts into other tokens than the base model, so their losses "
                "cannot be compared; choose a model with the same tokenizer."
            )
        return (units.loss_sum_base - second["loss_sum_base"]) / units.n_tokens


SELECTORS = (TwoModelGap,)
