"""How a model is fine-tuned on reasoning traces; part of a checkpoint's identity."""

from typing import Literal, Self

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from airlab.schema.base import Frozen
from airlab.schema.training import Fraction, Momentum, Training


class FineTuning(Frozen):
    """AdamW over all weights, some times through the data; by default what s1 used, AIR's setting."""

    epochs: PositiveInt = 5
    """Times that every trace is trained on, in another order each time."""
    batch_sequences: PositiveInt = 16
    """Packed sequences in an update; each holds as many whole traces as fit."""
    learning_rate: PositiveFloat = 1e-5
    warmup_fraction: Fraction = 0.05
    decay_fraction: Fraction = 0.95
    decay_shape: Literal["cosine", "1-sqrt", "linear"] = "cosine"
    weight_decay: NonNegativeFloat = 1e-4
    beta1: Momentum = 0.9
    beta2: Momentum = 0.95
    epsilon: PositiveFloat = 1e-8
    gradient_clip: PositiveFloat = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _fractions_fit(self) -> Self:
        if self.warmup_fraction + self.decay_fraction > 1.0:
            raise ValueError("warmup_fraction and decay_fraction must not add up to more than 1")
        return self

    def optimisation(self, budget_tokens: int) -> Training:
        """The same in the words of the training loop."""
        return Training(budget_tokens=budget_tokens, **self.model_dump(exclude={"epochs"}))
