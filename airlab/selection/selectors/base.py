"""What makes a selector: a frozen configuration with one method."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from airlab.schema.base import Frozen
from airlab.selection.needs import ControlMask, Need
from airlab.selection.units import Units


class SelectorBase(Frozen, ABC):
    """A way to score units; higher is selected.

    Subclasses have a field `kind: Literal["name"]` and live in a module `airlab/selection/selectors/
    <name>.py` that ends with `SELECTORS = (TheClass,)`. Budgets, ties and domains are handled
    elsewhere, the same for all.
    """

    ALONE: ClassVar[bool] = False
    """Whether a unit's score is the same whatever other units there are, so that a table that is larger than
    memory can be scored in parts."""

    @abstractmethod
    def score(self, units: Units, seed: int) -> np.ndarray:
        """Scores, float64 [units], finite, and independent of the units' order.

        Args:
            units: what is to be scored.
            seed: the experiment's seed, for selectors that draw.
        """

    def needs(self) -> tuple[Need, ...]:
        """What `units.measured` will be asked for; most selectors get along with losses and texts."""
        return ()

    def control(self) -> ControlMask | None:
        """The reference model whose losses are scored, where it is not the experiment's own."""
        return None
