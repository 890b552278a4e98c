"""The contract of every selector that there is or will be: found by looking, never listed here.

A selector without a file in configs/selector fails the first test; the others run over all files.
"""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from airlab.errors import UserError
from airlab.schema.selection import Selecting
from airlab.selection.select import select
from airlab.selection.selectors import known_selectors
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units
from tests.unit.selection.made_units import COLUMNS, configured, make_units, scored, taken

SELECTORS = configured()
BY_ID = {"random", "dsir", "length_matched_random", "deduplicated", "influence_novel", "coverage"}
"""Kinds that tell copies of one text apart, on purpose: they draw for each id, or keep one copy only."""

every_selector = pytest.mark.parametrize("selector", SELECTORS.values(), ids=SELECTORS)


def chosen(u: Units, scores: np.ndarray, **spec: object) -> np.ndarray:
    return select(u.unit_id, u.domain, u.n_tokens, scores, Selecting(**spec))


def test_every_kind_has_a_configuration() -> None:
    assert {s.kind for s in SELECTORS.values()} == set(known_selectors())
    assert len(SELECTORS) >= 20


@every_selector
def test_its_docstring_says_whose_it_is(selector: SelectorBase) -> None:
    written = f"{sys.modules[type(selector).__module__].__doc__} {type(selector).__doc__}"
    assert re.search(r"arXiv\s\d{4}\.\d{5}|SIGIR\s\d{4}|\bOurs\b", written), (
        f"the docstring of {type(selector).__name__} credits no paper, nor says that it is Ours"
    )


@every_selector
def test_scores_are_numbers_and_the_same_every_time(selector: SelectorBase) -> None:
    u = make_units()
    scores = scored(selector, u, 3)
    assert scores.dtype == np.float64 and scores.shape == (len(u),)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > 1, "it tells units apart"
    np.testing.assert_array_equal(scores, scored(selector, make_units(), 3))


@every_selector
def test_the_order_of_units_has_no_effect(selector: SelectorBase) -> None:
    u = make_units()
    scores = scored(selector, u, 1)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(u))
        np.testing.assert_array_equal(scored(selector, taken(u, order), 1), scores[order])


@every_selector
@pytest.mark.parametrize("scope", ["domain", "global"])
@pytest.mark.parametrize("unit", ["documents", "tokens"])
def test_budgets_are_exact_to_one_document(selector: SelectorBase, unit: str, scope: str) -> None:
    u = make_units()
    scores = scored(selector, u)
    for share in (0.01, 0.2, 0.5, 1.0):
        mask = chosen(u, scores, share=share, unit=unit, scope=scope)
        groups = np.unique(u.domain) if scope == "domain" else [None]
        for group in groups:
            inside = np.ones(len(u), dtype=bool) if group is None else u.domain == group
            own = mask & inside
            if unit == "documents":
                assert own.sum() == max(1, round(share * inside.sum()))
            else:
                budget, last = share * u.n_tokens[inside].sum(), np.flatnonzero(own)
                worst = last[np.lexsort((u.unit_id[last], -scores[last]))][-1]
                tokens = u.n_tokens[own].sum()
                assert tokens >= budget * (1 - 1e-9)
                assert tokens - u.n_tokens[worst] < budget


@every_selector
def test_copies_of_a_text_score_alike_and_ties_go_to_the_smaller_id(selector: SelectorBase) -> None:
    u = make_units(20)
    twice = taken(u, np.repeat(np.arange(20), 2))
    ids = np.array([f"{unit}{copy}" for unit in u.unit_id for copy in "ab"], dtype=object)
    twice = replace(twice, unit_id=ids)
    scores = scored(selector, twice)
    if selector.kind not in BY_ID:
        np.testing.assert_array_equal(scores[0::2], scores[1::2])
    for share in (0.1, 0.25, 0.6):
        mask = chosen(twice, scores, share=share)
        for domain in np.unique(twice.domain):
            for score in np.unique(scores[twice.domain == domain]):
                tied = np.flatnonzero((twice.domain == domain) & (scores == score))
                ordered = mask[tied[np.argsort(ids[tied])]]
                assert (np.diff(ordered.astype(int)) <= 0).all(), "taken up to some id, then no more"


@every_selector
@pytest.mark.parametrize("column", ["loss_sum_base", "loss_sum_ref", "entropy_sum_base"])
def test_what_is_no_number_does_not_pass(selector: SelectorBase, column: str) -> None:
    u = make_units()
    broken = getattr(u, column).copy()
    broken[7] = np.nan
    u = replace(u, **{column: broken})
    try:
        mask = chosen(u, scored(selector, u), share=0.2)
    except UserError as error:
        assert "not a finite number" in str(error)
    else:
        clean = make_units()
        np.testing.assert_array_equal(mask, chosen(clean, scored(selector, clean), share=0.2))


def alike(count: int) -> Units:
    """Units that differ in nothing but their ids."""
    u = taken(make_units(), np.zeros(count, dtype=np.int64))
    return replace(u, unit_id=np.array([f"doc-{i:02d}" for i in range(count)], dtype=object))


EXTREMES = {
    "one document": make_units(1, domains=("prose",)),
    "two documents": make_units(2, domains=("prose",)),
    "one domain": make_units(domains=("prose",)),
    "a domain each": replace(
        make_units(), domain=np.array(["prose", *(f"d{i}" for i in range(39))], dtype=object)
    ),
    "all alike": replace(alike(12), domain=np.array(["prose"] * 12, dtype=object)),
    "empty texts": replace(make_units(), texts=lambda: [""] * 40),
    "one word each": replace(make_units(), texts=lambda: [f"word{i}" for i in range(40)]),
    "losses unmoved": replace(make_units(), loss_sum_ref=make_units().loss_sum_base),
}


@every_selector
@pytest.mark.parametrize("units", EXTREMES.values(), ids=EXTREMES)
def test_extremes_are_defined(selector: SelectorBase, units: Units) -> None:
    scores = scored(selector, units)
    assert np.isfinite(scores).all()
    mask = chosen(units, scores, share=0.25)
    assert sum(mask) == sum(max(1, round(0.25 * (units.domain == d).sum())) for d in np.unique(units.domain))


@every_selector
def test_equal_scores_are_equal_to_the_last_bit(selector: SelectorBase) -> None:
    scores = scored(selector, EXTREMES["all alike"])
    if selector.kind not in BY_ID:
        assert len(np.unique(scores)) == 1


@every_selector
def test_missing_inputs_are_refused_in_a_sentence(selector: SelectorBase) -> None:
    u = make_units()
    bare = Units(*(getattr(u, c) for c in COLUMNS))
    try:
        scores = selector.score(bare, 0)
    except UserError as error:
        assert str(error).endswith("use it in a run.")
    else:
        assert not selector.needs() and selector.control() is None
        np.testing.assert_array_equal(scores, scored(selector, u))


@every_selector
def test_units_are_left_as_they_are(selector: SelectorBase) -> None:
    u, untouched = make_units(), make_units()
    scored(selector, u)
    for column in COLUMNS:
        np.testing.assert_array_equal(getattr(u, column), getattr(untouched, column))
