"""Domains, length bins and ranks within domains: what makes units and their scores comparable."""

from collections.abc import Iterator

import numpy as np
from scipy.stats import rankdata

_SMALLEST_BIN = 5
"""Fewer units a bin would leave little to choose from."""


def groups_of(domain: np.ndarray) -> Iterator[np.ndarray]:
    """The members of each domain, int64 indices in the order of the rows."""
    for name in np.unique(domain):
        yield np.flatnonzero(domain == name)


def length_bins(
    domain: np.ndarray, n_tokens: np.ndarray, unit_id: np.ndarray, bins: int
) -> Iterator[np.ndarray]:
    """The members of each domain's length bins, int64 indices from short to long; equal lengths by id.

    Args:
        domain, n_tokens, unit_id: of each unit [units].
        bins: of equal size, in each domain; fewer where they would hold less than five units.
    """
    for members in groups_of(domain):
        ordered = members[np.lexsort((unit_id[members], n_tokens[members]))]
        yield from np.array_split(ordered, max(1, min(bins, len(ordered) // _SMALLEST_BIN)))


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
