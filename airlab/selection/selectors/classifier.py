"""Any sequence-classification model as a judge of documents."""

from typing import Literal

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from airlab.schema.models import HubModel
from airlab.selection.needs import ClassifierScores, Need
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class Classifier(SelectorBase):
    """The output of a classifier or regressor for the beginning of a document.

    `configs/selector/fineweb_edu.yaml` is the FineWeb-Edu classifier (Penedo et al., arXiv 2406.17557), a
    regression of educational value from 0 to 5. Deviates: the paper keeps what rounds to 3 or more; here
    the best share is taken, as with every selector.
    """

    kind: Literal["classifier"]
    model: HubModel
    output: NonNegativeInt | None = None
    """Which output, for models that have several: its log-probability is the score."""
    max_tokens: PositiveInt = 512
    """What is read of each document, in the classifier's tokens."""

    def needs(self) -> tuple[Need, ...]:
        return (self._need,)

    @property
    def _need(self) -> ClassifierScores:
        return ClassifierScores(self.model, self.output, self.max_tokens)

    def score(self, units: Units, seed: int) -> np.ndarray:
        return units.measured(self._need)["score"]


SELECTORS = (Classifier,)
