"""How losses are measured."""

from typing import Annotated, Literal

from pydantic import Field

from airlab.schema.base import Frozen


class Scoring(Frozen):
    """What may change a loss: everything here is part of its identity."""

    window_tokens: Annotated[int, Field(ge=2)] = 2048
    """Longest piece scored at once; longer documents are cut into windows that share one token."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of weights and activations; losses are float32 and sums float64 in any case."""
