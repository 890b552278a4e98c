"""Many comparisons at once."""

from collections.abc import Mapping


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
