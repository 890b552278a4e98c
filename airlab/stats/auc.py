"""How well a score tells two kinds of units apart: areas under ROC curves, as means over independent groups.

The area is the probability that a unit of the one kind has the higher score than one of the other, ties
counting half. Units of a group (the steps of a trace) are not independent of each other, so an area is
written as a mean of one value a group, which `airlab.stats.intervals` knows how to resample, pair and test.
"""

from collections.abc import Hashable

import numpy as np
from scipy.stats import rankdata

from airlab.stats.grid import Array, Grid


def auc(scores: Array, positive: np.ndarray) -> float | None:
    """The area by ranks (Mann-Whitney); None where a kind is missing.

    Args:
        scores: float64 [units], finite.
        positive: bool [units], the kind that is to score higher.
    """
    found = _placements(scores, positive)
    return None if found is None else float(found[positive].mean())


def auc_within(
    scores: Array, positive: np.ndarray, group: np.ndarray, cluster: np.ndarray | None = None
) -> Grid | None:
    """The area within each group that has both kinds; the mean counts every group once.

    What groups differ in (a problem's length, its numbers) does not enter.

    Args:
        scores, positive: as of `auc`.
        group: names [units].
        cluster: names [units], constant within a group; None where groups are independent.

    Returns:
        One value a group, or None where no group has both kinds.
    """
    names, values, clusters = [], [], []
    for name in np.unique(group):
        inside = np.flatnonzero(group == name)
        area = auc(scores[inside], positive[inside])
        if area is not None:
            names.append(str(name))
            values.append(area)
            clusters.append(None if cluster is None else cluster[inside[0]])
    return _grid(names, values, clusters if cluster is not None else None) if names else None


def auc_pooled(
    scores: Array, positive: np.ndarray, group: np.ndarray, cluster: np.ndarray | None = None
) -> Grid | None:
    """The area over all pairs, whatever their groups, as a mean of linearised values of the groups.

    A group's value is the area plus what its units pull it up or down by, to first order (DeLong's
    components, summed by group as by Obuchowski, Biometrics 53, 1997). Arguments as of `auc_within`.

    Returns:
        One value a group, their mean is the area; None where a kind is missing.
    """
    placements = _placements(scores, positive)
    if placements is None:
        return None
    area = float(placements[positive].mean())
    names, member = np.unique(group, return_inverse=True)
    pull: Array = (placements - area) / np.where(positive, positive.sum(), (~positive).sum())
    values: Array = area + len(names) * np.bincount(member, weights=pull).astype(np.float64)
    first = np.unique(group, return_index=True)[1]
    return _grid([str(n) for n in names], values, None if cluster is None else list(cluster[first]))


def _placements(scores: Array, positive: np.ndarray) -> Array | None:
    """Of each unit, the share of the other kind that it wins against: above it, for a negative."""
    n_positive = int(positive.sum())
    if n_positive in (0, len(positive)):
        return None
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite")
    others_below = rankdata(scores)
    for kind in (positive, ~positive):
        others_below[kind] -= rankdata(scores[kind])
    return np.where(positive, others_below / (len(positive) - n_positive), 1 - others_below / n_positive)


def _grid(names: list[str], values: Array | list[float], clusters: list[Hashable] | None) -> Grid:
    together = None if clusters is None else tuple(("cluster", str(name)) for name in clusters)
    return Grid((0,), tuple(names), np.asarray(values, dtype=np.float64)[None], together)
