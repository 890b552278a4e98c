"""Decoder layers compiled for GPUs, with three rewrites that PyTorch's compiler does not make.

The compiler traces a layer into a graph of operations. Whatever family the layer is of, the graph
shows where matrix products share their input, where two of them feed a gated activation, and where
one is added to the residual stream; each is replaced there by something that moves fewer bytes.
"""

import operator
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch.nn.functional import linear, silu

from airlab.models import attention
from airlab.models.geometry import decoder_layers

_LINEAR = torch._C._nn.linear


@torch.library.custom_op("airlab::swiglu", mutates_args=())
def _swiglu(inputs: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(inputs gate^T) * (inputs up^T)."""
    if inputs.is_cuda:
        from airlab.kernels.swiglu import fused_swiglu

        return fused_swiglu(inputs, gate, up)
    return silu(linear(inputs, gate)) * linear(inputs, up)


@_swiglu.register_fake
def _(inputs: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return inputs.new_empty(*inputs.shape[:-1], gate.shape[0])


@torch.library.custom_op("airlab::add_linear_", mutates_args=("total",))
def _add_linear_(total: torch.Tensor, inputs: torch.Tensor, weight: torch.Tensor) -> None:
    """total += inputs weight^T, inside the matrix product."""
    total.view(-1, total.shape[-1]).addmm_(inputs.reshape(-1, inputs.shape[-1]), weight.t())


def _calls(node: Any, target: Any) -> bool:
    return isinstance(node, fx.Node) and node.target is target


def _plain(node: Any) -> bool:
    """Whether a node is a matrix product without bias whose result has one user."""
    return (
        _calls(node, _LINEAR)
        and (len(node.args) == 2 or node.args[2] is None)
        and not node.kwargs
        and len(node.users) == 1
    )


def _half(node: Any) -> bool:
    return node.meta["example_value"].dtype in (torch.bfloat16, torch.float16)


def _nodes(graph: fx.Graph) -> list[Any]:
    return list(graph.nodes)


def _gate(graph: fx.Graph) -> None:
    """silu(linear(x, g)) * linear(x, u)  →  swiglu(x, g, u)."""
    for node in _nodes(graph):
        if not _calls(node, operator.mul):
            continue
        for activated, lifted in (node.args, node.args[::-1]):
            if not (_calls(activated, silu) and _plain(lifted)):
                continue
            gated = activated.args[0]
            if (
                len(activated.users) == 1
                and _plain(gated)
                and gated.args[0] is lifted.args[0]
                and _half(node)
            ):
                with graph.inserting_before(node):
                    fused = graph.call_function(
                        torch.ops.airlab.swiglu.default, (gated.args[0], gated.args[1], lifted.args[1])
                    )
                node.replace_all_uses_with(fused)
                break
    graph.eliminate_dead_code()


def _merge(graph: fx.Graph) -> None:
    """linear(x, a), linear(x, b), …  →  one product with the stacked weights, and slices of it."""
    sharing: dict[fx.Node, list[Any]] = defaultdict(list)
    for node in _nodes(graph):
        if _calls(node, _LINEAR) and not node.kwargs:
            sharing[node.args[0]].append(node)
    for shared, products in sharing.items():
        biases = [p.args[2] if len(p.args) == 3 else None for p in products]
        if len(products) < 2 or any((b is None) != (biases[0] is None) for b in biases):
            continue
        weights = [p.args[1] for p in products]
        if any(w.op not in ("placeholder", "get_attr") for w in weights):
            continue  # made on the way, perhaps after the first product
        sizes = [w.meta["example_value"].shape[0] for w in weights]
        with graph.inserting_before(products[0]):
            stacked = graph.call_function(torch.cat, (weights,))
            bias = None if biases[0] is None else graph.call_function(torch.cat, (biases,))
            whole = graph.call_function(linear, (shared, stacked, bias))
            parts = graph.call_function(torch.split, (whole, sizes), {"dim": -1})
            slices = [graph.call_function(operator.getitem, (parts, i)) for i in range(len(sizes))]
        for product, part in zip(products, slices, strict=True):
            product.replace_all_uses_with(part)
    graph.eliminate_dead_code()


def _last_use(node: Any, order: dict[Any, int]) -> int:
    """Where a value is looked at for the last time, be it through a view: methods may return one."""
    return max(
        (max(order[u], _last_use(u, order) if u.op == "call_method" else -1) for u in node.users),
        default=-1,
    )


def _accumulate(graph: fx.Graph) -> None:
    """residual + linear(x, w)  →  residual += x w^T, where nothing else needs the old residual."""
    order = {node: position for position, node in enumerate(_nodes(graph))}
    for node in _nodes(graph):
        if not _calls(node, operator.add):
            continue
        for residual, product in (node.args, node.args[::-1]):
            if (
                _plain(product)
                and _calls(residual, operator.add)  # made here, so it may be overwritten here
                and residual.meta["example_value"].shape == node.meta["example_value"].shape
                and _last_use(residual, order) == order[node]
            ):
                with graph.inserting_before(node):
                    graph.call_function(torch.ops.airlab.add_linear_.default, (residual, *product.args[:2]))
                node.replace_all_uses_with(residual)
                break
    graph.eliminate_dead_code()


def rewrite(module: fx.GraphModule) -> fx.GraphModule:
    """Apply the rewrites to a traced layer, in place."""
    for step in (_gate, _merge, _accumulate):
        step(module.graph)
    module.recompile()
    return module


def _backend(module: fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
    compiler: Callable[..., Any] = torch._dynamo.lookup_backend("inductor")
    return compiler(rewrite(module), inputs)


def compile_layers(model: Any) -> None:
    """Compile a model's decoder layers and last norm, in place: once for all layers of a kind.

    The number of tokens is left open: no batch compiles anything anew.
    """

    def located(forward: Callable[..., Any], layer: int) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            with attention.inside_layer(layer):
                return forward(*args, **kwargs)

        return run

    for number, layer in enumerate(decoder_layers(model)):
        layer.forward = located(torch.compile(layer.forward, dynamic=True, backend=_backend), number)
    norm = getattr(model.get_decoder(), "norm", None)
    if norm is not None:
        norm.forward = torch.compile(norm.forward, dynamic=True)
