"""Instruction-following difficulty: what comes first, what comes last, and what has none."""

from dataclasses import replace

import numpy as np
import pytest

from airlab.errors import UserError
from airlab.schema.selection import Selecting
from airlab.selection.select import select
from airlab.selection.selectors.ifd import Ifd
from airlab.selection.units import Units

IFD = Ifd(kind="ifd")


def units(ratio: list[float], n_alone: list[int]) -> Units:
    """Units whose second half costs two nats a token alone, and `ratio` times that after the first one."""
    count, n_first, n_after = len(ratio), 10, 7
    alone = np.array(n_alone)
    halves = {
        "n_tokens_first": np.full(count, n_first),
        "loss_sum_first": np.full(count, 30.0),
        "n_tokens_second": alone,
        "loss_sum_second": alone * 2.0,
    }
    names = np.array([f"doc-{i}" for i in range(count)], dtype=object)
    base = 30.0 + n_after * 2.0 * np.array(ratio)
    blank = np.full(count, "all", dtype=object)
    u = Units(names, blank, np.full(count, n_first + n_after), base, base, base)
    return replace(u, measured=lambda need: halves)


def test_scores_are_the_ratio_of_mean_losses() -> None:
    np.testing.assert_allclose(IFD.score(units([0.25, 0.9], [6, 6]), 0), [0.25, 0.9])


def test_the_highest_below_one_come_first_then_those_above_it_then_those_without() -> None:
    ratio, n_alone = [0.5, 1.6, 0.99, 1.0, 3.0, 0.1, 7.0, 0.7], [6, 6, 6, 6, 6, 6, 6, 0]
    scores = IFD.score(units(ratio, n_alone), 0)
    assert np.argsort(-scores).tolist() == [2, 0, 5, 3, 1, 4, 6, 7]


def test_documents_without_a_ratio_are_tied_below_all_others() -> None:
    scores = IFD.score(units([0.5, 0.2, 2.0, 0.8], [6, 0, 6, 0]), 0)
    assert scores[1] == scores[3] < scores.min(initial=0, where=[True, False, True, False])
    np.testing.assert_array_equal(IFD.score(units([0.5, 0.4], [0, 0]), 0), [-1, -1])


def test_a_second_half_that_costs_nothing_has_no_ratio() -> None:
    u = units([0.5, 0.6], [6, 6])
    halves = dict(u.measured(IFD.needs()[0]))
    halves["loss_sum_second"] = np.array([0.0, 12.0])
    scores = IFD.score(replace(u, measured=lambda need: halves), 0)
    assert scores[0] < scores[1] == pytest.approx(0.6)


def test_a_half_whose_loss_is_no_number_does_not_pass() -> None:
    u = units([0.5, 0.6], [6, 6])
    for column in ("loss_sum_first", "loss_sum_second"):
        halves = dict(u.measured(IFD.needs()[0]))
        halves[column] = np.array([np.nan, 12.0])
        broken = replace(u, measured=lambda need, halves=halves: halves)
        with pytest.raises(UserError, match="not a finite number"):
            select(u.unit_id, u.domain, u.n_tokens, IFD.score(broken, 0), Selecting())
