"""The error of a mean over training runs and items, which is known to few degrees of freedom."""

import math
from dataclasses import dataclass

from scipy import optimize, stats

_SMALLEST_P = 1e-30
"""What is smaller says nothing more, and the quantiles of so small tails are not computed well."""


@dataclass(frozen=True)
class Error:
    """Variances of a mean from two samples, each with its degrees of freedom.

    The half-width of an interval is the root of the sum of both parts' squared half-widths, each by its own
    t (Howe, JASA 69, 1974: an approximate bound for a sum of two means). Satterthwaite's single t for the
    summed variance is too short where the luck of two to five runs is most of the error: in simulations
    without any difference up to 15 % of its p-values are below 0.05 over two runs and 10 % over three; of
    these, 5 % at most (`tests/unit/stats/test_coverage.py`).

    Attributes:
        items: variance of the mean from drawing items; `items_freedom`: its degrees of freedom.
        runs: variance from drawing runs, 0 where there is one; `runs_freedom`: its degrees of freedom.
    """

    items: float
    items_freedom: float
    runs: float
    runs_freedom: int

    def half_width(self, level: float) -> float:
        """Of the two-sided interval that covers with probability `level`, about."""
        return self._bound((1 - level) / 2)

    def p_value(self, value: float) -> float:
        """Two-sided, for a mean of `value` against zero: one minus the level whose interval ends at zero."""
        if abs(value) >= self._bound(_SMALLEST_P / 2):
            return _SMALLEST_P
        found = optimize.brentq(
            lambda log_p: self._bound(math.exp(log_p) / 2) - abs(value), math.log(_SMALLEST_P), 0.0
        )
        return math.exp(float(found))

    def detectable(self, comparisons: int, level: float = 0.95, power: float = 0.8) -> float:
        """The true difference that a two-sided test would find with probability `power`, about.

        Args:
            comparisons: how many are tested together; Holm's first and strictest step is what counts.
            level: one minus the family-wise error.
        """
        return self._bound((1 - level) / comparisons / 2) + self._bound(1 - power)

    def _bound(self, tail: float) -> float:
        """What the mean's error exceeds with probability `tail`, at most one half, on one side."""
        by_items = float(stats.t.isf(tail, self.items_freedom)) * math.sqrt(self.items)
        by_runs = float(stats.t.isf(tail, self.runs_freedom)) * math.sqrt(self.runs) if self.runs else 0.0
        return math.hypot(by_items, by_runs)
