"""The order that the data's own curators gave: what people chose, where they say so."""

from typing import Literal

import numpy as np

from airlab.errors import UserError
from airlab.selection.needs import CuratedOrder, Need
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class Curated(SelectorBase):
    """Minus the rank that the curators gave: 1 is the best. For traces alone; documents have no such rank.

    AIR (arXiv 2512.13279) names manual curation as a baseline. s1K (Muennighoff et al., arXiv 2501.19393) is
    one such choice; its data have no rank by themselves. Where one is missing nothing is guessed.
    """

    kind: Literal["curated"]

    def needs(self) -> tuple[Need, ...]:
        return (CuratedOrder(),)

    def score(self, units: Units, seed: int) -> np.ndarray:
        order = units.measured(CuratedOrder())["order"].astype(np.float64)
        if np.isnan(order).any():
            raise UserError(
                f"{int(np.isnan(order).sum())} trace(s) have no rank of their curators (the first is "
                f"{units.unit_id[np.isnan(order)][0]}): name the column that holds it as the traces' "
                "columns.order, or leave out the selector curated."
            )
        return -order


SELECTORS = (Curated,)
