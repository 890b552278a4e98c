"""Useful floating-point operations, from shapes alone.

A multiplication with an addition counts as two. With L layers of P weights in matrices each, H query heads of
size d, hidden size h, vocabulary V and sequences of n tokens, one token of one forward pass takes

    layers' projections   2 · P · L
    attention             4 · H · d · (n + 1)/2 · L       (n + 1)/2 visible tokens on average
    output projection     2 · h · V

Training takes three times that: the backward pass has two products for each one of the forward pass. What is
computed again to save memory does not count. So MFU = these operations / (seconds · peak of the GPUs).
"""

from airlab.schema.training import TargetModel


def matrix_weights(shape: TargetModel) -> int:
    """Weights in the matrices of one layer."""
    head_size = shape.hidden_size // shape.heads
    attention = 2 * shape.hidden_size * head_size * (shape.heads + shape.kv_heads)
    return attention + 3 * shape.hidden_size * shape.intermediate_size


def forward_flops(shape: TargetModel, vocabulary: int, n_tokens: int) -> float:
    """Of one token of a sequence of `n_tokens`."""
    return shape.layers * _layer(shape, n_tokens) + 2.0 * shape.hidden_size * vocabulary


def training_flops(shape: TargetModel, vocabulary: int) -> float:
    """Of one token of a training sequence, which is as long as the context."""
    return 3.0 * forward_flops(shape, vocabulary, shape.context)


def probing_flops(shape: TargetModel, n_tokens: int) -> float:
    """Of one token of a probe of `n_tokens`: no output projection, since only attention is looked at."""
    return shape.layers * _layer(shape, n_tokens)


def scoring_flops(shape: TargetModel, vocabulary: int, n_tokens: int, first_masked_layer: int) -> float:
    """Of one token of a document of `n_tokens` through base and reference model.

    The layers below the first masked one are alike in both and needed once.
    """
    passes = 2 * shape.layers - first_masked_layer
    return passes * _layer(shape, n_tokens) + 2 * 2.0 * shape.hidden_size * vocabulary


def _layer(shape: TargetModel, n_tokens: int) -> float:
    return 2.0 * matrix_weights(shape) + 4.0 * shape.hidden_size * (n_tokens + 1) / 2
