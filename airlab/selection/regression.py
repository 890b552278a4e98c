"""What is left of a score when others are taken out of it."""

import numpy as np

from airlab.selection.ranks import groups_of
from airlab.selection.units import Units

_ROUNDING = 1e-9
_DIGITS = 9


def residual(values: np.ndarray, explained_by: np.ndarray) -> np.ndarray:
    """Residuals of a linear least-squares fit with an intercept.

    Args:
        values: float64 [units].
        explained_by: float64 [units, variables]; constant or dependent columns do no harm.

    Returns:
        float64 [units], of mean zero, to nine digits of the largest value; all zero for fewer units than
        a fit that could be wrong needs (two more than variables).
    """
    if not np.isfinite(values).all():
        return np.full(len(values), np.nan)  # to be refused by name, where names are known
    if len(values) < explained_by.shape[1] + 2:
        return np.zeros(len(values))
    centred = values - values.mean()
    columns = explained_by - explained_by.mean(axis=0)
    spread = np.abs(columns).max(axis=0)
    columns = columns[:, spread > _ROUNDING * np.abs(explained_by).max(axis=0, initial=0)]
    if columns.shape[1]:
        columns = columns / np.abs(columns).max(axis=0)
        left = centred - columns @ np.linalg.lstsq(columns, centred, rcond=None)[0]
    else:
        left = centred
    # Units that are alike in everything must stay alike, whatever the rounding in their rows.
    scale = np.abs(values).max()
    return np.round(left / scale, _DIGITS) * scale if scale else left


def residual_within(units: Units, values: np.ndarray, explained_by: np.ndarray) -> np.ndarray:
    """Residuals of a fit in each domain; see `residual`.

    Returns:
        float64 [units], in the units' order.
    """
    left = np.empty(len(units), dtype=np.float64)
    for members in groups_of(units.domain):
        # In the order of the ids, so that rounding does not depend on the order of the rows.
        ordered = members[np.argsort(units.unit_id[members], kind="stable")]
        left[ordered] = residual(values[ordered], explained_by[ordered])
    return left
