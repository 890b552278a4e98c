"""Ranks within domains: what makes scores of different scales and levels comparable."""

from collections.abc import Iterator

import numpy as np
from scipy.stats import rankdata


def groups_of(domain: np.ndarray) -> Iterator[np.ndarray]:
    """The members of each domain, int64 indices in the order of the rows."""
    for name in np.unique(domain):
        yield np.flatnonzero(domain == name)


def ranks_within(domain: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The share of its domain that each value is at or above, in (0, 1); equal values share their rank.

    Args:
        domain: string array [units].
        values: float64 [units].

    Returns:
        float64 [units]: (rank - 1/2) / members.
    """
    ranks = np.empty(len(values), dtype=np.float64)
    for members in groups_of(domain):
        ranks[members] = (rankdata(values[members]) - 0.5) / len(members)
    return ranks
