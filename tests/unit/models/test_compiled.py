"""Compiling and rewriting a layer must leave what it computes as it was."""

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from airlab.models import compiled
from airlab.models.packed import Reference, hidden_states
from tests.conftest import small_model

LENGTHS = [30, 24]
REFERENCE = Reference({1: torch.tensor([0, 5]), 3: torch.tensor([2])})


@pytest.fixture
def graphs(monkeypatch):
    """The operations of every graph that was rewritten, as names."""
    seen: list[list[str]] = []
    rewrite = compiled.rewrite

    def watched(module):
        rewritten = rewrite(module)
        seen.append([str(node.target) for node in rewritten.graph.nodes if node.op == "call_function"])
        return rewritten

    monkeypatch.setattr(compiled, "rewrite", watched)
    torch._dynamo.reset()
    yield seen
    torch._dynamo.reset()


def states(lm, lengths=LENGTHS):
    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, 97, sum(lengths)))
    return hidden_states(lm, tokens, lengths, REFERENCE).float()


def error(ours: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((ours - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma", "starcoder2"])
def test_a_compiled_model_computes_the_same_and_compiles_nothing_for_another_batch(graphs, family):
    plain, fast = small_model(family), small_model(family)
    compiled.compile_layers(fast.model)
    assert error(states(fast), states(plain)) < 1e-5
    assert graphs, "nothing was compiled"
    before = counters["stats"]["unique_graphs"]
    assert error(states(fast, [3, 50, 17]), states(plain, [3, 50, 17])) < 1e-5
    assert counters["stats"]["unique_graphs"] == before


def test_in_bfloat16_rewrites_lose_no_more_than_the_plain_model(graphs):
    exact = states(small_model("llama", torch.float64))
    plain, fast = small_model("llama", torch.bfloat16), small_model("llama", torch.bfloat16)
    compiled.compile_layers(fast.model)
    assert error(states(fast), exact) < 1.2 * error(states(plain), exact)
    for names in graphs:
        assert sum("swiglu" in name for name in names) == 1
        assert sum("add_linear_" in name for name in names) == 1
        assert sum("linear" in name for name in names) == 3, "merged projections, output, accumulation"


def used_again(x, weight):
    total = x + 1
    return total + torch.nn.functional.linear(x, weight), total * 2


def used_through_a_view(x, weight):
    total = x + 1
    seen = total.view(-1)
    return total + torch.nn.functional.linear(x, weight), seen * 2


@pytest.mark.parametrize("layer", [used_again, used_through_a_view])
def test_the_old_residual_is_kept_where_something_else_needs_it(layer):
    seen = []

    def backend(module, inputs):
        seen.append(compiled.rewrite(module))
        return seen[0].forward

    torch._dynamo.reset()
    x, weight = torch.randn(3, 4), torch.randn(4, 4)
    ours = torch.compile(layer, backend=backend)(x, weight)
    for a, b in zip(ours, layer(x, weight), strict=True):
        torch.testing.assert_close(a, b)
    assert not any("add_linear_" in str(node.target) for node in seen[0].graph.nodes)


def test_weights_made_on_the_way_are_not_merged():
    def layer(x, weight):
        first = torch.nn.functional.linear(x, weight)
        return first + torch.nn.functional.linear(x, weight * first.sum())

    torch._dynamo.reset()
    x, weight = torch.randn(3, 4), torch.randn(4, 4)
    fast = torch.compile(layer, backend=lambda module, inputs: compiled.rewrite(module).forward)
    torch.testing.assert_close(fast(x, weight), layer(x, weight))
