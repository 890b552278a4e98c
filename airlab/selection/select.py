"""From scores to a subset: budget, domains and ties, the same for every selector."""

import numpy as np

from airlab.errors import UserError
from airlab.schema.selection import Selecting


def select(
    unit_id: np.ndarray, domain: np.ndarray, n_tokens: np.ndarray, score: np.ndarray, spec: Selecting
) -> np.ndarray:
    """Take the best units until the budget is met (AttentionInfluence, Section 4.2).

    Units are documents, or traces. The budget of a domain (or of the whole pool) is `share` of its
    units, rounded to the nearest whole one, or `share` of its tokens: then units are taken in order until
    the budget is reached, so it is exceeded by less than one unit. At least one unit is taken of each
    domain. Equal scores are ordered by id, so the result does not depend on the order of the rows.

    Args:
        unit_id, domain: string arrays [units].
        n_tokens: int64 [units].
        score: float64 [units], higher is better.

    Returns:
        Boolean array [units].

    Raises:
        UserError: a score that is not a finite number.
    """
    if not np.isfinite(score).all():
        bad = unit_id[~np.isfinite(score)]
        raise UserError(
            f"{len(bad)} unit(s) have a score that is not a finite number (the first is {bad[0]}); "
            "remove them or correct the selector."
        )
    chosen = np.zeros(len(unit_id), dtype=bool)
    groups = domain if spec.scope == "domain" else np.zeros(len(unit_id), dtype=np.int64)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        order = members[np.lexsort((unit_id[members], -score[members]))]
        if spec.unit == "documents":
            count = max(1, round(spec.share * len(order)))
        else:
            budget = spec.share * n_tokens[order].sum()
            count = max(1, int(np.searchsorted(np.cumsum(n_tokens[order]), budget * (1 - 1e-12))) + 1)
        chosen[order[:count]] = True
    return chosen
