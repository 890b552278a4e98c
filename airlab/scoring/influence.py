"""AttentionInfluence and its relatives, computed from sums (a new formula never costs a model pass)."""

import numpy as np

from airlab.errors import UserError


def attention_influence(loss_sum_base: np.ndarray, loss_sum_ref: np.ndarray) -> np.ndarray:
    """Relative loss increase (L_ref - L_base) / L_base of each unit (AttentionInfluence, Eq. 5).

    The means of the paper share their denominator, the number of tokens, so sums give the same.

    Args:
        loss_sum_base, loss_sum_ref: float64 [units], nats.

    Raises:
        UserError: a base loss of zero, for which the ratio is not defined.
    """
    if (loss_sum_base <= 0).any():
        raise UserError(
            f"{int((loss_sum_base <= 0).sum())} unit(s) have a base loss of zero, for which a relative "
            "increase is not defined; remove them from the input."
        )
    return (loss_sum_ref - loss_sum_base) / loss_sum_base
