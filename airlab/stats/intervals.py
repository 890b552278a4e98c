"""Intervals of means over items, and over runs x items.

Items and runs (training seeds) are both samples: another seed and other items of the same kind would
give other numbers. With a single run the interval covers items only, and says so.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from airlab.stats.error import Error
from airlab.stats.estimate import Estimate
from airlab.stats.grid import Array, Grid, cluster_values, unit_names

ITEMS_ONLY = "bootstrap over items; seed variation unknown"
RUNS_AND_ITEMS = "bootstrap over seeds and items, scaled to a t for each"
UNKNOWN = "unknown: too few units, or all alike"
_CHUNK = 250
_ROUNDING = 1e-12
"""A spread below this share of the values is that of their rounding: they are alike."""


@dataclass(frozen=True)
class Comparison:
    """An estimate of a difference from zero and its error, None where unknown."""

    estimate: Estimate
    error: Error | None

    @property
    def p_value(self) -> float | None:
        """Two-sided, None where unknown. Searched for when asked: a table asks it of its composites alone."""
        return None if self.error is None else self.error.p_value(self.estimate.value)


def mean_interval(
    values: Array, *, rng: np.random.Generator, level: float = 0.95, resamples: int = 2000
) -> Estimate:
    """Bias-corrected and accelerated bootstrap interval of the mean of independent values [n].

    Unknown for fewer than two values or when all are equal: a bootstrap of those would claim certainty.
    """
    values = np.asarray(values, dtype=np.float64)
    value = float(values.mean())
    if len(values) < 2 or np.ptp(values) == 0:
        return Estimate(value, None, None, level, UNKNOWN, len(values), 1)
    result = stats.bootstrap(
        (values,),
        np.mean,
        axis=-1,
        confidence_level=level,
        n_resamples=resamples,
        batch=_CHUNK,
        method="BCa",
        rng=rng,
    ).confidence_interval
    return Estimate(value, float(result.low), float(result.high), level, ITEMS_ONLY, len(values), 1)


def cluster_interval(
    grid: Grid, *, rng: np.random.Generator, level: float = 0.95, resamples: int = 2000
) -> Estimate:
    """Interval of a single run's mean over items when whole clusters are drawn, not items.

    Raises ValueError for more than one run: use `compare` or `interval`, which know about runs.
    """
    if len(grid.runs) != 1:
        raise ValueError("a cluster bootstrap is over one run's items")
    return mean_interval(cluster_values(grid)[0], rng=rng, level=level, resamples=resamples)


def interval(grid: Grid, *, rng: np.random.Generator, level: float = 0.95, resamples: int = 2000) -> Estimate:
    """Interval of the mean over runs and items; items only (and said so) with a single run.

    Where every value is 0 or 1 the interval of the proportion ends at 0 and 1.
    """
    if len(grid.runs) == 1:
        estimate = cluster_interval(grid, rng=rng, level=level, resamples=resamples)
    else:
        estimate = compare([grid], rng=rng, level=level, resamples=resamples).estimate
    if estimate.low is None or estimate.high is None or not np.isin(grid.values, (0.0, 1.0)).all():
        return estimate
    return replace(estimate, low=max(estimate.low, 0.0), high=min(estimate.high, 1.0))


def compare(
    strata: Sequence[Grid],
    *,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = 2000,
    scales: Sequence[float] | None = None,
) -> Comparison:
    """The mean over strata (tasks) of their mean over runs and items, each stratum divided by its scale.

    Strata share their runs (a seed's luck is common to all its tasks) and may share clusters: tasks cut
    from one document are no independent evidence. The hierarchical bootstrap draws runs once for all
    strata and items (clusters) within each, crossed, as every run saw every item. Its spread is then
    brought to the unbiased two-way error (`Error`), in which a shared cluster counts once: a plain percentile
    interval over two to five seeds is far too short.

    One run: items only. Unknown when a stratum has fewer than two units or nothing varies.

    Raises ValueError when strata have different runs.
    """
    if not strata or any(set(grid.runs) != set(strata[0].runs) for grid in strata):
        raise ValueError("strata must have the same runs")
    order = sorted(strata[0].runs)
    factors = [1.0] * len(strata) if scales is None else list(scales)
    weighted = [
        cluster_values(grid)[[grid.runs.index(run) for run in order]] / (scale * len(strata))
        for grid, scale in zip(strata, factors, strict=True)
    ]
    n_runs, n_units = len(order), sum(values.shape[1] for values in weighted)
    value = float(sum(values.mean() for values in weighted))
    error = _two_way(weighted, [unit_names(grid, index) for index, grid in enumerate(strata)])
    if error is None:
        return Comparison(Estimate(value, None, None, level, UNKNOWN, n_units, n_runs), None)

    draws = _hierarchical_draws(weighted, resamples, rng)
    stretch = error.half_width(level) / float(draws.std() * stats.norm.ppf((1 + level) / 2))
    low, high = value + stretch * (np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]) - value)
    method = RUNS_AND_ITEMS if n_runs > 1 else ITEMS_ONLY
    estimate = Estimate(value, float(low), float(high), level, method, n_units, n_runs)
    return Comparison(estimate, error)


def _two_way(weighted: Sequence[Array], names: Sequence[Sequence[Hashable]]) -> Error | None:
    """Error of the sum of the strata's means; None if unknown.

    Args:
        weighted: each stratum's values, [runs, units].
        names: each stratum's units; units of the same name in several strata vary together.
    """
    if any(values.shape[1] < 2 for values in weighted):
        return None
    n_runs = weighted[0].shape[0]
    index = {name: i for i, name in enumerate(dict.fromkeys(name for of in names for name in of))}
    pull = np.zeros(len(index))  # what each unit adds to the sum of means, all strata together
    left = np.zeros((n_runs, len(index)))
    own: list[tuple[float, int]] = []
    for values, of in zip(weighted, names, strict=True):
        n_units = values.shape[1]
        where = [index[name] for name in of]
        unbiased = math.sqrt(n_units / (n_units - 1)) / n_units
        mean = values.mean(axis=0)
        pull[where] += (mean - mean.mean()) * unbiased
        left[:, where] += (values - mean - values.mean(axis=1, keepdims=True) + values.mean()) * unbiased
        own.append((float(mean.var(ddof=1)) / n_units, n_units - 1))
    over_items = float((pull**2).sum())
    over_runs = 0.0
    if n_runs > 1:
        per_run = sum(values.mean(axis=1) for values in weighted)
        over_runs = float(np.var(per_run, ddof=1)) / n_runs
        # Runs x items noise is in both marginal variances and must count once.
        over_items = max(0.0, over_items - float((left**2).sum()) / ((n_runs - 1) * n_runs))
    size = max(float(np.abs(values).max()) for values in weighted)
    if over_items + over_runs <= (_ROUNDING * size) ** 2:
        return None
    freedom = 1.0  # of no consequence where items are alike
    if parts := sum(part for part, _ in own):
        freedom = parts**2 / sum(part**2 / degrees for part, degrees in own)
    return Error(over_items, freedom, over_runs, n_runs - 1)


def _hierarchical_draws(weighted: Sequence[Array], resamples: int, rng: np.random.Generator) -> Array:
    n_runs = weighted[0].shape[0]
    draws = np.zeros(resamples)
    for start in range(0, resamples, _CHUNK):
        count = min(_CHUNK, resamples - start)
        # How often each run was drawn: the mean is then two small matrix products.
        runs = rng.multinomial(n_runs, np.full(n_runs, 1 / n_runs), size=count) / n_runs
        for values in weighted:
            n_units = values.shape[1]
            units = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=count) / n_units
            draws[start : start + count] += ((runs @ values) * units).sum(axis=1)
    return draws
