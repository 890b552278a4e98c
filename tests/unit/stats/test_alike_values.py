"""Values that are alike in items, in runs, or in both but for rounding."""

import numpy as np
import pytest

from airlab.randomness import generator
from airlab.stats.grid import Grid
from airlab.stats.intervals import Comparison, compare


def compared(*values: np.ndarray, scales: tuple[float, ...] | None = None) -> Comparison:
    strata = [
        Grid(tuple(range(len(v))), tuple(f"{i}" for i in range(v.shape[1])), v.astype(np.float64))
        for v in values
    ]
    return compare(strata, rng=generator(0, "alike"), resamples=500, scales=scales)


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("value", [0.0, 0.1, -1 / 3, 1e6 / 7])
def test_a_difference_that_is_the_same_everywhere_has_an_unknown_error(runs: int, value: float) -> None:
    result = compared(np.full((runs, 7), value), np.full((runs, 5), 3 * value), scales=(1.7, -0.3))
    assert result.p_value is None and not result.estimate.known
    assert result.estimate.value == pytest.approx(value / 3.4 - 3 * value / 0.6)


def test_rounding_is_no_spread() -> None:
    values = 0.3 + 1e-16 * np.arange(12).reshape(2, 6)
    assert not compared(values).estimate.known
    assert compared(values + 1e-6 * np.arange(12).reshape(2, 6)).estimate.known


def test_items_that_are_alike_leave_the_error_of_the_runs() -> None:
    of_runs = np.array([0.1, 0.2, 0.4])
    result = compared(np.repeat(of_runs[:, None], 6, axis=1))
    assert result.error is not None and result.error.items == pytest.approx(0)
    assert result.error.runs == pytest.approx(of_runs.var(ddof=1) / 3)
    assert result.error.runs_freedom == 2 and result.estimate.known
