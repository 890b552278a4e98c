"""How well a document compresses: redundancy as a general compressor sees it."""

from typing import Literal

import numpy as np

from airlab.selection.needs import Need, Statistics
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class Compression(SelectorBase):
    """The compression ratio of the text (bytes over bytes after zstd), or minus it.

    `low` is the direction of ZIP (Yin et al., arXiv 2407.06645: the lower the ratio, the better the data);
    `high` selects repetitive text, which a score of copying heads may do as well. Deviates from ZIP:
    each document on its own, where ZIP greedily compresses the selection as a whole.
    """

    kind: Literal["compression"]
    prefer: Literal["high", "low"] = "low"

    def needs(self) -> tuple[Need, ...]:
        return (Statistics(),)

    def score(self, units: Units, seed: int) -> np.ndarray:
        ratio = units.measured(Statistics())["compression_ratio"]
        return ratio if self.prefer == "high" else -ratio


SELECTORS = (Compression,)
