"""Selection on disk: the same units as in memory, whatever the scores and however they arrive."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airlab.errors import UserError
from airlab.schema.selection import Selecting
from airlab.selection.on_disk import UnitsOnDisk
from airlab.selection.select import select
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units
from tests.unit.selection.made_units import configured, make_units, scored

IDS = st.text(st.characters(codec="utf-8"), max_size=4)
ROW = st.tuples(
    IDS,
    st.sampled_from(["a", "b", "ü"]),
    st.integers(1, 50),
    st.sampled_from([0.0, -0.0, 5e-324, 1.0, -2.0, 1e308, 0.1, 0.30000000000000004]),
)


def arrays(rows: list[tuple[str, str, int, float]]) -> tuple[np.ndarray, ...]:
    ids, domain, tokens, score = zip(*rows, strict=True)
    return np.array(ids, object), np.array(domain, object), np.array(tokens), np.array(score)


@given(
    st.lists(ROW, min_size=1, max_size=60, unique_by=lambda row: row[0]),
    st.floats(0.01, 1),
    st.sampled_from(["documents", "tokens"]),
    st.sampled_from(["domain", "global"]),
    st.integers(1, 60),
)
@settings(max_examples=200, deadline=None)
def test_the_same_units_are_chosen_as_in_memory(rows, share, unit, scope, at_once):
    spec = Selecting(share=share, unit=unit, scope=scope)
    columns = arrays(rows)
    expected = select(*columns, spec)
    with UnitsOnDisk() as units:
        for first in range(0, len(rows), at_once):
            units.add(*(column[first : first + at_once] for column in columns))
        chosen = units.choose(spec)
        assert chosen.tolist() == expected.tolist()
        found = [row for part in units.parts(chosen) for row in zip(*part, strict=True)]
        assert found == [row for row, take in zip(rows, expected, strict=True) if take]
        told = units.by_domain(chosen)
    inside = columns[1] == told[0].domain
    assert (told[0].units, told[0].of_units) == ((expected & inside).sum(), inside.sum())
    assert told[0].tokens == columns[2][expected & inside].sum()
    assert sum(one.of_tokens for one in told) == columns[2].sum()


@given(st.lists(IDS, min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_a_repeated_id_is_found(ids):
    n = len(ids)
    with UnitsOnDisk() as units:
        units.add(np.array(ids, object), np.array(["a"] * n, object), np.ones(n, np.int64), np.ones(n))
        again = {name for name in ids if ids.count(name) > 1}
        assert units.repeated() in again if again else units.repeated() is None


def test_scores_that_are_no_numbers_are_counted_over_all_parts():
    with UnitsOnDisk() as units:
        for name, score in (("a", 1.0), ("b", np.nan), ("c", np.inf)):
            units.add(np.array([name], object), np.array(["x"], object), np.array([1]), np.array([score]))
        with pytest.raises(UserError, match=r"2 unit\(s\) have a score .*\(the first is b\)"):
            units.choose(Selecting())


ALONE = {name: selector for name, selector in configured().items() if selector.ALONE}


@pytest.mark.parametrize("selector", ALONE.values(), ids=ALONE)
def test_units_alone_have_the_scores_that_they_have_among_others(selector: SelectorBase):
    whole = make_units()
    columns = ("unit_id", "domain", "n_tokens", "loss_sum_base", "loss_sum_ref", "entropy_sum_base")

    def part(rows: slice) -> Units:
        return replace(whole, **{name: getattr(whole, name)[rows] for name in columns})

    parts = [scored(selector, part(slice(n, n + 7)), 3) for n in range(0, len(whole), 7)]
    np.testing.assert_array_equal(np.concatenate(parts), scored(selector, whole, 3))
    assert sys.float_info.max > np.abs(np.concatenate(parts)).max()


def test_the_paper_s_selector_is_one_of_them():
    assert "attention_influence" in ALONE and "length_matched_random" not in ALONE
