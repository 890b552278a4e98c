"""Every family against attention written out head by head, one sequence at a time."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airlab.models.packed import Reference, hidden_states
from airlab.scoring.losses import windows
from tests.conftest import FAMILIES, VOCABULARY, small_model

_SPEC = importlib.util.spec_from_file_location(
    "explicit_attention", Path(__file__).with_name("explicit_attention.py")
)
explicit = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(explicit)

MASKED = {1: [0, 5], 3: [2]}
LENGTHS = (5, 1, 40, 18, 2)  # longer than the small windows, shorter, and a single token


def stream(length: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).integers(3, VOCABULARY, length))


def reference(masked: dict[int, list[int]]) -> Reference:
    return Reference({layer: torch.tensor(heads) for layer, heads in masked.items()})


def assert_exact(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    scale = float(theirs.std())
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("masked", [MASKED, {0: [0, 1, 2, 3, 4, 5]}, {3: [4]}], ids=["some", "first", "last"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_both_rows_equal_explicit_attention_one_by_one(family, masked):
    lm, tokens = small_model(family), stream(sum(LENGTHS))
    ours = hidden_states(lm, tokens, LENGTHS, reference(masked))
    theirs = explicit.states_one_by_one(lm.model, tokens, LENGTHS, masked)
    assert_exact(ours, theirs)
    assert (theirs[0] - theirs[1]).abs().max() > 1e-2 * theirs.std(), "masking must matter here"


@pytest.fixture(scope="module", params=["llama", "mistral-sliding", "olmoe"])
def some_family(request):
    return small_model(request.param)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(2, 60), min_size=1, max_size=5),
    window=st.integers(2, 40),
    seed=st.integers(0, 99),
)
def test_packed_windows_of_any_lengths_equal_each_window_alone(some_family, lengths, window, seed):
    cuts = [windows(n, window) for n in lengths]
    for length, cut in zip(lengths, cuts, strict=True):
        predicted = [t for start, end in cut for t in range(start + 1, end)]
        assert predicted == list(range(1, length)), "every token but the first is predicted once"
        assert all(end - start <= window for start, end in cut)
    documents = [stream(n, seed + i) for i, n in enumerate(lengths)]
    pieces = [d[s:e] for d, cut in zip(documents, cuts, strict=True) for s, e in cut]
    sizes = [len(piece) for piece in pieces]
    tokens = torch.cat(pieces)
    ours = hidden_states(some_family, tokens, sizes, reference(MASKED))
    assert_exact(ours, explicit.states_one_by_one(some_family.model, tokens, sizes, MASKED))
