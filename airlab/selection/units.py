"""What a selector sees: one row a unit (a document or a reasoning step)."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from airlab.errors import UserError


def _no_texts() -> list[str]:
    raise UserError("this selector reads the texts, which a table of scores does not hold; use it in a run.")


@dataclass(frozen=True)
class Units:
    """Columns of a LossTable, all of one length.

    Attributes:
        unit_id: stable names, unique.
        domain: each unit's domain.
        n_tokens: int64, predicted tokens, at least 1.
        loss_sum_base, loss_sum_ref, entropy_sum_base: float64 sums over them, nats.
        texts: gives the units' texts, in the same order; most selectors need none.
    """

    unit_id: np.ndarray
    domain: np.ndarray
    n_tokens: np.ndarray
    loss_sum_base: np.ndarray
    loss_sum_ref: np.ndarray
    entropy_sum_base: np.ndarray
    texts: Callable[[], list[str]] = field(default=_no_texts, compare=False)

    def __len__(self) -> int:
        return len(self.unit_id)
