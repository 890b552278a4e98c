"""From scores to a subset: budget, domains and ties, the same for every selector."""

from typing import NoReturn

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
        refuse_infinite(len(bad), bad[0])
    chosen = np.zeros(len(unit_id), dtype=bool)
    groups = domain if spec.scope == "domain" else np.zeros(len(unit_id), dtype=np.int64)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        order = members[np.lexsort((unit_id[members], -score[members]))]
        amounts = np.ones(len(order), np.int64) if spec.unit == "documents" else n_tokens[order]
        before = np.cumsum(amounts) - amounts
        chosen[order[before < taken_before(spec, len(order), n_tokens[order].sum())]] = True
        chosen[order[0]] = True
    return chosen


def taken_before(spec: Selecting, n_units: int, n_tokens: int) -> float:
    """A unit is taken where less than this was taken before it, in units or tokens as `spec` says.

    Args:
        n_units, n_tokens: of the domain, or of the whole pool.
    """
    if spec.unit == "documents":
        return max(1, round(spec.share * n_units))
    return float(spec.share * n_tokens * (1 - 1e-12))


def refuse_infinite(count: int, first: str) -> NoReturn:
    """Refuse scores that are no finite numbers.

    Raises:
        UserError: always.
    """
    raise UserError(
        f"{count} unit(s) have a score that is not a finite number (the first is {first}); "
        "remove them or correct the selector."
    )
