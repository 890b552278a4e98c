"""Several selectors at once."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from airlab.selection.needs import Need, ScoresOf
from airlab.selection.ranks import ranks_within
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class RankSum(SelectorBase):
    """The sum of the ranks that several selectors give a unit within its domain.

    Borda's count (1781), with which metasearch fuses rankings (Aslam and Montague, SIGIR 2001). Deviates:
    ranks are shares of the domain, and equal scores share theirs.
    """

    kind: Literal["rank_sum"]
    of: Annotated[tuple[str, ...], Field(min_length=2)]
    """Selectors, by the name of an arm or by their kind."""

    def needs(self) -> tuple[Need, ...]:
        return tuple(ScoresOf(name) for name in self.of)

    def score(self, units: Units, seed: int) -> np.ndarray:
        ranks = [ranks_within(units.domain, units.measured(need)["score"]) for need in self.needs()]
        return np.sum(ranks, axis=0)


SELECTORS = (RankSum,)
