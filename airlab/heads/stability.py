"""How far the top of a ranking of heads can be trusted: agreement of rankings, and of subsets of probes.

Scores are flat arrays over all heads, float64 [heads]; recalls are float64 [probes, heads], what each probe
says about each head. Nothing here runs a model.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

_DIGITS = 9
"""Means that agree so far are equal: which of them is larger is an accident of the order of summation."""

_QUANTILES = (0.05, 0.95)


@dataclass(frozen=True)
class Agreement:
    """How two rankings of the same heads agree.

    Attributes:
        shared: heads in the top of both.
        count: heads in each top.
        spearman: rank correlation over all heads; None where one ranking says nothing.
    """

    shared: int
    count: int
    spearman: float | None

    @property
    def share(self) -> float:
        """Of the top, also in the other's top."""
        return self.shared / self.count


def tops(scores: np.ndarray, count: int) -> np.ndarray:
    """The `count` best heads of each row, best first, int64 [rows, count]; ties go to the earlier head.

    Args:
        scores: float64 [rows, heads].
    """
    return np.argsort(-np.round(scores, _DIGITS), axis=1, kind="stable")[:, :count]


def agreement(first: np.ndarray, second: np.ndarray, count: int) -> Agreement:
    """Compare two rankings.

    Args:
        first, second: scores of the same heads.
        count: how many heads are the top.
    """
    shares = shared_share(first[None], second[None], count)
    spearman = float(rank_correlations(first[None], second[None])[0])
    return Agreement(round(float(shares[0]) * count), count, None if np.isnan(spearman) else spearman)


def shared_share(first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """Share of the `count` best heads that two rankings have in common, row by row.

    Args:
        first, second: float64 [rows, heads].

    Returns:
        float64 [rows].
    """
    members = np.zeros((2, *first.shape), dtype=bool)
    for member, scores in zip(members, (first, second), strict=True):
        np.put_along_axis(member, tops(scores, count), True, axis=1)
    shares: np.ndarray = members.all(axis=0).sum(axis=1) / count
    return shares


def rank_correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman correlation over heads, row by row; NaN where all heads of a row are equal.

    Args:
        first, second: float64 [rows, heads].
    """
    centred = []
    for scores in (first, second):
        ranks = rankdata(np.round(scores, _DIGITS), axis=1)
        centred.append(ranks - ranks.mean(axis=1, keepdims=True))
    a, b = centred
    spread = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    correlations: np.ndarray = np.divide(
        (a * b).sum(axis=1), spread, out=np.full(len(a), np.nan), where=spread > 0
    )
    return correlations


def disjoint_draws(
    probes: int, first: int, second: int, draws: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of probes without a probe in common, drawn many times.

    Returns:
        bool [draws, probes] each, with `first` and `second` probes in every row.

    Raises:
        ValueError: there are not so many probes, or a set is empty.
    """
    if min(first, second) < 1 or first + second > probes:
        raise ValueError(f"{probes} probes do not give {first} and {second} others")
    place = random.permuted(np.tile(np.arange(probes), (draws, 1)), axis=1)
    return place < first, (place >= first) & (place < first + second)


def means(recall: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Scores from each set of probes alone, float64 [sets, heads].

    Args:
        recall: float64 [probes, heads].
        chosen: bool [sets, probes], at least one probe in each.
    """
    scores: np.ndarray = chosen.astype(np.float64) @ recall / chosen.sum(axis=1, keepdims=True)
    return scores


@dataclass(frozen=True)
class DrawnAgreement:
    """Agreement of disjoint sets of probes over many draws; low and high are 5 and 95 % quantiles.

    Attributes:
        first, second: probes in the two sets.
        share, share_low, share_high: of the top heads, in the top of both.
        spearman, spearman_low, spearman_high: over all heads; None where a set gives all heads one score.
    """

    first: int
    second: int
    share: float
    share_low: float
    share_high: float
    spearman: float | None
    spearman_low: float | None
    spearman_high: float | None


def drawn_agreement(
    recall: np.ndarray, first: int, second: int, count: int, draws: int, random: np.random.Generator
) -> DrawnAgreement:
    """How the top heads of `first` probes agree with those of `second` others, over random draws.

    With `second` all the rest it says how many probes suffice; with `second = first`, how much two runs
    differ that differ in their probes alone.
    """
    one, other = disjoint_draws(len(recall), first, second, draws, random)
    scores = means(recall, one), means(recall, other)
    shares = shared_share(*scores, count)
    correlations = rank_correlations(*scores)
    low, high = np.quantile(shares, _QUANTILES)
    known = not np.isnan(correlations).any()
    return DrawnAgreement(
        first,
        second,
        float(shares.mean()),
        float(low),
        float(high),
        *(
            [float(correlations.mean()), *np.quantile(correlations, _QUANTILES).tolist()]
            if known
            else [None] * 3
        ),
    )
