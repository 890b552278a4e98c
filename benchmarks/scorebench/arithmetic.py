"""The work that losses of both models take, counted: floating-point operations and bytes.

Useful operations of one document of n tokens, for a model of L layers whose lowest masked layer is f
(layers 0 … f-1 are the same in both models and needed once):

    layers' projections   2 · P · n · (L + (L - f))     P = weights of one layer's matrices
    attention             4 · H · d · n(n + 1)/2 · (L + (L - f))
    output projection     2 · h · V · (n - 1) · 2

with H query heads of size d, hidden size h, vocabulary V. A multiplication with an addition counts as two;
attention has two products (queries with keys, weights with values) over the n(n + 1)/2 visible pairs;
n - 1 tokens are predicted. Padding, hidden pairs and a second pass of the shared layers are no use to
anybody and do not count, whoever computes them.

Bytes are the fewest that each component moves if it reads its inputs and writes its outputs once, with
the weights of a layer read once for both models: the second ceiling, for components that do little
arithmetic a byte.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PROJECTIONS, ATTENTION, OUTPUT, REST = (
    "layers' projections",
    "attention",
    "output projection and losses",
    "norms, rotations, activations, residuals",
)


@dataclass(frozen=True)
class Work:
    """Least work of one component."""

    flops: float
    bytes: float


def count(config: Any, lengths: Sequence[int], first_masked: int, bytes_each: int) -> dict[str, Work]:
    """Work by component for documents of the given lengths, for models built like Llama.

    Args:
        config: a transformers configuration.
        lengths: tokens of each document, scored together in one step.
        first_masked: the lowest layer with a masked head (the number of layers, if none).
        bytes_each: of one weight or activation.
    """
    hidden, inner, vocabulary = config.hidden_size, config.intermediate_size, config.vocab_size
    size = getattr(config, "head_dim", None) or hidden // config.num_attention_heads
    queries, keys = config.num_attention_heads * size, config.num_key_value_heads * size
    layers = config.num_hidden_layers
    passes = 2 * layers - first_masked
    tokens = sum(lengths)
    predicted = tokens - len(lengths)
    pairs = sum(n * (n + 1) // 2 for n in lengths)
    weights = 2 * hidden * (queries + keys) + 3 * hidden * inner
    projected = 3 * hidden + 2 * queries + 2 * keys + 3 * inner + hidden
    elementwise = 8 * hidden + 2 * (queries + keys) + 3 * inner
    return {
        PROJECTIONS: Work(
            2.0 * weights * tokens * passes,
            float(bytes_each) * (weights * layers + projected * tokens * passes),
        ),
        ATTENTION: Work(
            4.0 * queries * pairs * passes, float(bytes_each) * 2 * (queries + keys) * tokens * passes
        ),
        OUTPUT: Work(
            2.0 * hidden * vocabulary * predicted * 2,
            float(bytes_each) * (hidden * vocabulary + 2 * hidden * predicted) + 3 * 4 * predicted,
        ),
        REST: Work(0.0, float(bytes_each) * elementwise * tokens * passes),
    }


def useful_flops(config: Any, lengths: Sequence[int], first_masked: int) -> float:
    """Floating-point operations of both models' losses (the formula at the top)."""
    return sum(work.flops for work in count(config, lengths, first_masked, 0).values())
