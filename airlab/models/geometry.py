"""The shape of a causal language model, as far as head masking needs to know it."""

from dataclasses import dataclass
from typing import Any

from airlab.errors import UserError


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
        """Read the geometry from a transformers configuration.

        Raises:
            UserError: the configuration does not say what is needed.
        """
        try:
            heads = int(config.num_attention_heads)
            return cls(
                layers=int(config.num_hidden_layers),
                heads=heads,
                kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
                context=int(config.max_position_embeddings),
                vocabulary=int(config.vocab_size),
            )
        except (AttributeError, TypeError) as error:
            raise UserError(
                f"models of type {config.model_type} cannot be scored exactly: their configuration does "
                f"not say what attention heads or context they have ({error}); use another model family."
            ) from error


def decoder_layers(model: Any) -> Any:
    """The decoder layers of a causal language model, lowest first.

    Raises:
        AttributeError: they are where no family known to us keeps them.
    """
    decoder = model.get_decoder()
    return decoder.layers if hasattr(decoder, "layers") else decoder.h
