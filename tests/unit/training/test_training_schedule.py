"""The learning rate at the corners of warm-up, stable and decay."""

import math
from itertools import pairwise

import pytest
from pydantic import ValidationError

from airlab.schema.training import Training
from airlab.training.schedule import learning_rate


def a_training(**changes: object) -> Training:
    return Training(budget_tokens=1, batch_sequences=1, learning_rate=4e-4, **changes)


def test_paper_schedule_at_its_corners() -> None:
    paper, n = a_training(), 10_000  # 0.1 % = 10 steps of warm-up, 25 % = 2,500 of decay
    rates = [learning_rate(step, n, paper) for step in range(n)]
    assert rates[0] == pytest.approx(4e-5) and rates[8] == pytest.approx(3.6e-4)
    assert rates[9:7500] == [4e-4] * 7491
    assert rates[7500] == pytest.approx(4e-4 * (1 - math.sqrt(1 / 2501))) and rates[7500] < 4e-4
    assert rates[-1] == pytest.approx(4e-4 * (1 - math.sqrt(2500 / 2501))) and rates[-1] > 0
    assert all(later < earlier for earlier, later in pairwise(rates[7499:]))


def test_linear_decay_is_halfway_in_the_middle() -> None:
    linear = a_training(decay_shape="linear")
    # 25 of 100 steps decay; the 13th of 25 is the middle of the way to the step after the last
    assert learning_rate(75 + 12, 100, linear) == pytest.approx(2e-4)
    assert learning_rate(99, 100, linear) == pytest.approx(4e-4 / 26)


def test_cosine_decay_falls_slowly_at_both_ends() -> None:
    cosine = a_training(decay_shape="cosine", warmup_fraction=0.05, decay_fraction=0.95)
    rates = [learning_rate(step, 100, cosine) for step in range(100)]
    assert rates[4] == 4e-4 and rates[52] == pytest.approx(2e-4)  # the 48th of 95, before a 96th that is 0
    falls = [earlier - later for earlier, later in pairwise(rates[4:])]
    assert max(falls) in falls[40:55] and falls[0] < 0.05 * max(falls) and falls[-1] < 0.05 * max(falls)


def test_short_runs_still_warm_up_and_never_fall_to_zero() -> None:
    for n in (1, 2, 3, 5):
        assert all(0 < learning_rate(step, n, a_training()) <= 4e-4 for step in range(n))
    assert learning_rate(0, 10, a_training(decay_fraction=0.0)) == 4e-4


def test_schedule_refuses_steps_outside_and_fractions_that_overlap() -> None:
    with pytest.raises(ValueError, match="outside"):
        learning_rate(5, 5, a_training())
    with pytest.raises(ValidationError, match="more than 1"):
        a_training(warmup_fraction=0.8, decay_fraction=0.3)
