"""Many comparisons at once."""

from collections.abc import Mapping

from airlab.stats.intervals import Comparison


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


def tested_together(
    results: Mapping[str, Comparison | None], level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Comparisons as one family: name -> (Holm-adjusted p-value, detectable difference).

    The difference is what would have been found with 80 % probability, so corrected. Those without a p-value
    are left out.
    """
    known = {
        name: (p_value, result.error)
        for name, result in results.items()
        if result is not None and result.error is not None and (p_value := result.p_value) is not None
    }
    p_values = holm({name: p_value for name, (p_value, _) in known.items()})
    return {name: (p_values[name], error.detectable(len(known), level)) for name, (_, error) in known.items()}
