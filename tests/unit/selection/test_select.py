"""Selecting: budgets exact, ties by id, order without effect."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airlab.errors import UserError
from airlab.schema.selection import Selecting
from airlab.selection.select import select

units = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(1, 50), st.sampled_from([0.0, 0.5, 1.0, -2.0])),
    min_size=1,
    max_size=60,
)


def columns(rows):
    ids = np.array([f"u{i:03d}" for i in range(len(rows))], dtype=object)
    domain, tokens, score = zip(*rows, strict=True)
    return ids, np.array(domain, dtype=object), np.array(tokens), np.array(score)


def chosen(rows, **spec) -> set[str]:
    arrays = columns(rows)
    return set(arrays[0][select(*arrays, Selecting(**spec))])


@given(
    units, st.floats(0.01, 1), st.sampled_from(["documents", "tokens"]), st.sampled_from(["domain", "global"])
)
@settings(max_examples=200, deadline=None)
def test_budget_is_met_to_one_unit_and_nothing_better_is_left_out(rows, share, unit, scope):
    ids, domain, tokens, score = columns(rows)
    mask = select(ids, domain, tokens, score, Selecting(share=share, unit=unit, scope=scope))
    groups = [domain == d for d in np.unique(domain)] if scope == "domain" else [np.ones(len(ids), bool)]
    for inside in groups:
        taken = mask & inside
        if unit == "documents":
            assert taken.sum() == max(1, round(share * inside.sum()))
        else:
            budget = share * tokens[inside].sum()
            largest = max((tokens[taken & (score == s)].max() for s in score[taken]), default=0)
            assert taken.any() and tokens[taken].sum() >= budget * (1 - 1e-9)
            assert tokens[taken].sum() - largest < budget or taken.sum() == 1
        left = inside & ~mask
        if left.any():
            assert score[taken].min() >= score[left].max()


@given(units, st.randoms())
@settings(max_examples=100, deadline=None)
def test_order_of_rows_has_no_effect(rows, random):
    ids, *rest = columns(rows)
    order = list(range(len(rows)))
    random.shuffle(order)
    spec = Selecting(share=0.3)
    straight = set(ids[select(ids, *rest, spec)])
    shuffled = set(ids[order][select(ids[order], *(c[order] for c in rest), spec)])
    assert straight == shuffled


def test_ties_go_to_the_smaller_id():
    rows = [("a", 10, 1.0)] * 10
    assert chosen(rows, share=0.3) == {"u000", "u001", "u002"}


def test_everything_selected_is_the_identity():
    rows = [("a", 3, 1.0), ("b", 4, 2.0), ("a", 5, 0.0)]
    for unit in ("documents", "tokens"):
        assert chosen(rows, share=1.0, unit=unit) == {"u000", "u001", "u002"}


def test_domains_compete_only_among_themselves():
    rows = [("hard", 10, 0.1), ("hard", 10, 0.2), ("easy", 10, 5.0), ("easy", 10, 6.0)]
    assert chosen(rows, share=0.5, scope="domain") == {"u001", "u003"}
    assert chosen(rows, share=0.5, scope="global") == {"u002", "u003"}


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(UserError, match="u001"):
        chosen([("a", 1, 1.0), ("a", 1, float("nan"))], share=0.5)
