"""AttentionInfluence with its known confounds taken out."""

from typing import Literal

import numpy as np

from airlab.selection.needs import Need, Statistics
from airlab.selection.regression import residual_within
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class AttentionInfluenceResidual(SelectorBase):
    """Attention influence minus what log length and repetition predict of it within the domain.

    Ours: AttentionInfluence (arXiv 2505.07293) selects documents about 1.5 times as long as the average,
    and masked copying heads hurt where text repeats itself. A linear regression in each domain on the
    logarithm of the number of tokens and the share of repeated word 5-grams; a domain of too few units to
    fit one scores zero.
    """

    kind: Literal["attention_influence_residual"]

    def needs(self) -> tuple[Need, ...]:
        return (Statistics(),)

    def score(self, units: Units, seed: int) -> np.ndarray:
        influence = units.influence()
        repetition = units.measured(Statistics())["repetition"]
        explained_by = np.column_stack([np.log(units.n_tokens), repetition])
        return residual_within(units, influence, explained_by)


SELECTORS = (AttentionInfluenceResidual,)
