"""What a selector sees: one row a unit (a document, a trace or a reasoning step)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from airlab.errors import UserError
from airlab.scoring.influence import attention_influence
from airlab.selection.needs import ControlMask, Need

Columns = Mapping[str, np.ndarray]


def _no_texts() -> list[str]:
    raise UserError("this selector reads the texts, which a table of scores does not hold; use it in a run.")


def not_measured(need: Need) -> Columns:
    """Refuses a need where there is nothing but a table."""
    raise UserError(f"this selector needs {need}, which a table of scores does not hold; use it in a run.")


def _of_documents(units: "Units") -> np.ndarray:
    certain = units.unit_id[units.loss_sum_base <= 0]
    if len(certain):
        raise UserError(
            f"{len(certain)} unit(s) have a base loss of zero, '{certain[0]}' the first, for which a "
            "relative increase is not defined; remove them from the corpus."
        )
    return attention_influence(units.loss_sum_base, units.loss_sum_ref)


@dataclass(frozen=True)
class Units:
    """Columns of a LossTable, all of one length.

    Attributes:
        unit_id: stable names, unique.
        domain: each unit's domain.
        n_tokens: int64, predicted tokens, at least 1.
        loss_sum_base, loss_sum_ref, entropy_sum_base: float64 sums over them, nats.
        texts: gives the units' texts, in the same order; most selectors need none.
        measured: gives the columns, in the same order, that a selector named in its `needs`.
        control: which reference model `loss_sum_ref` is of; None for the experiment's own.
        formula: from the units to their influence, float64 [units]; traces and steps have their own.
    """

    unit_id: np.ndarray
    domain: np.ndarray
    n_tokens: np.ndarray
    loss_sum_base: np.ndarray
    loss_sum_ref: np.ndarray
    entropy_sum_base: np.ndarray
    texts: Callable[[], list[str]] = field(default=_no_texts, compare=False)
    measured: Callable[[Need], Columns] = field(default=not_measured, compare=False)
    control: ControlMask | None = None
    formula: Callable[["Units"], np.ndarray] = field(default=_of_documents, compare=False)

    def __len__(self) -> int:
        return len(self.unit_id)

    def influence(self, control: ControlMask | None = None) -> np.ndarray:
        """Relative increase of the loss under the reference model, by the formula of these units.

        Args:
            control: the reference model that is meant, where it is not the experiment's own.

        Raises:
            UserError: the losses were measured under another reference model than `control`; or a base loss
                of zero, for which the ratio is not defined.
        """
        if control is not None and self.control != control:
            raise UserError(
                "this selector needs losses under a reference model of its own, which this table of losses "
                "was not measured with; use it in a run."
            )
        return self.formula(self)
