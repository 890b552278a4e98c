"""The shape of a causal language model, as far as head masking needs to know it."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Geometry:
    """Layers × query heads, and how query heads share key/value heads.

    Attributes:
        layers: decoder layers.
        heads: query heads a layer.
        kv_heads: key/value heads a layer; `heads // kv_heads` query heads share one.
        context: longest sequence the model was made for, in tokens.
        vocabulary: rows of the output projection.
    """

    layers: int
    heads: int
    kv_heads: int
    context: int
    vocabulary: int

    @classmethod
    def of(cls, config: Any) -> "Geometry":
        """Read the geometry from a transformers configuration."""
        heads = int(config.num_attention_heads)
        return cls(
            layers=int(config.num_hidden_layers),
            heads=heads,
            kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
            context=int(config.max_position_embeddings),
            vocabulary=int(config.vocab_size),
        )
