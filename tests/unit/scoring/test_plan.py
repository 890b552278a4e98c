"""Packing sequences into passes: everything once, nothing over the limits, little room left."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airlab.scoring.losses import _plan


@given(
    lengths=st.lists(st.integers(2, 300), max_size=60),
    tokens=st.integers(1, 400),
    most=st.integers(1, 20),
)
def test_every_sequence_is_in_one_batch_and_no_batch_is_too_large(lengths, tokens, most):
    batches = _plan(lengths, tokens, most)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert 1 <= len(batch) <= most
        # A sequence longer than a batch gets one of its own.
        assert sum(lengths[i] for i in batch) <= tokens or len(batch) == 1


@pytest.mark.parametrize("seed", range(3))
def test_batches_of_natural_lengths_are_full(seed):
    drawn = np.random.default_rng(seed).lognormal(np.log(770) - 0.5, 1, 4000)
    lengths = np.clip(drawn, 32, 4096).astype(int).tolist()
    batches = _plan(lengths, 65536, 512)
    assert sum(lengths) / 65536 > len(batches) - 1.02, "all full, but perhaps the last"
