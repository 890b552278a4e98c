"""What retrieval heads do for a document beyond what any heads of their layers do."""

from typing import Literal

import numpy as np

from airlab.selection.needs import Need, ScoresOf, Statistics
from airlab.selection.regression import residual_within
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class InfluenceExcess(SelectorBase):
    """Attention influence minus what other heads' influence, log length and repetition predict of it.

    Ours. Masking any heads hurts a document that the model predicts well, and masked copying heads hurt where
    a text repeats itself; AttentionInfluence (arXiv 2505.07293) counts both as reasoning. A linear regression
    in each domain; a domain of too few units to fit one scores zero.

    Hypothesis: what is left is the part of the score that is about looking things up, so this arm beats
    random on tasks that need it where influence itself does, and does not lose on plain text where it does.
    """

    kind: Literal["influence_excess"]
    others: str = "random_heads"
    """The selector whose influence is taken out, by the name of an arm or by its kind."""

    def needs(self) -> tuple[Need, ...]:
        return (ScoresOf(self.others), Statistics())

    def score(self, units: Units, seed: int) -> np.ndarray:
        influence = units.influence()
        others = units.measured(ScoresOf(self.others))["score"]
        repetition = units.measured(Statistics())["repetition"]
        explained_by = np.column_stack([others, np.log(units.n_tokens), repetition])
        return residual_within(units, influence, explained_by)


SELECTORS = (InfluenceExcess,)
