"""How a model is fine-tuned on reasoning traces; part of a checkpoint's identity."""

from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from airlab.schema.base import Frozen
from airlab.schema.training import Fraction, Optimisation, Training


class Lora(Frozen):
    """Adapters of low rank on every linear map but the output projection; nothing else is trained.

    There is no dropout: it would make the weights depend on how a batch is cut.
    """

    rank: PositiveInt = 16
    alpha: PositiveInt = 32
    """What an adapter adds is its product times alpha / rank."""


class Distillation(Frozen):
    """Learning from a teacher's distribution of each predicted token, next to the token itself.

    See `airlab.training.distillation` for the divergence's formula.
    """

    divergence: Literal["forward_kl", "reverse_kl"] = "forward_kl"
    """`forward_kl`: of the student from the teacher, which covers all that the teacher would say.
    `reverse_kl`: of the teacher from the student, which settles on what the teacher is sure of."""
    temperature: PositiveFloat = 1.0
    """Of both distributions."""
    share: Fraction = 0.5
    """Of a token's loss that is divergence; the rest is cross-entropy. 0 is fine-tuning without a teacher."""


class FineTuning(Optimisation):
    """AdamW, some times through the data; by default what s1 used, AIR's setting."""

    epochs: PositiveInt = 5
    """Times that every trace is trained on, in another order each time."""
    batch_sequences: PositiveInt = 16
    """Packed sequences in an update; each holds as many whole traces as fit."""
    learning_rate: PositiveFloat = 1e-5
    warmup_fraction: Fraction = 0.05
    decay_fraction: Fraction = 0.95
    decay_shape: Literal["1-sqrt", "linear", "cosine"] = "cosine"
    weight_decay: NonNegativeFloat = 1e-4
    lora: Lora | None = None
    """None trains all weights."""
    distillation: Distillation | None = None
    """None learns from the tokens alone; otherwise `FineTune` needs what a teacher says of its data."""

    def optimisation(self, budget_tokens: int) -> Training:
        """The same in the words of the training loop."""
        shared = self.model_dump(include=set(Optimisation.model_fields))
        return Training(budget_tokens=budget_tokens, **shared)
