"""Many comparisons, and how small a difference could have been seen."""

from collections.abc import Mapping

from scipy import stats


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjusted p-values: rejecting those <= alpha keeps the family-wise error at alpha."""
    adjusted: dict[str, float] = {}
    running = 0.0
    for rank, (name, p_value) in enumerate(sorted(p_values.items(), key=lambda pair: (pair[1], pair[0]))):
        if not 0 <= p_value <= 1:
            raise ValueError(f"the p-value of {name} is {p_value}")
        running = max(running, min(1.0, (len(p_values) - rank) * p_value))
        adjusted[name] = running
    return {name: adjusted[name] for name in p_values}


def minimum_detectable_effect(
    standard_error: float, freedom: float, *, comparisons: int = 1, level: float = 0.95, power: float = 0.8
) -> float:
    """The true difference that a two-sided t-test would find with probability `power`, about.

    Args:
        standard_error: of the estimated difference.
        freedom: its degrees of freedom; few seeds leave few.
        comparisons: how many are tested together; Holm's first and strictest step is what counts.
        level: one minus the family-wise error.
    """
    if standard_error <= 0:
        raise ValueError("the standard error must be positive")
    strictest = (1 - level) / comparisons
    return float(standard_error * (stats.t.isf(strictest / 2, freedom) + stats.t.ppf(power, freedom)))
