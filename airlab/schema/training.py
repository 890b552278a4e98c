"""The target model's shape and how it is trained; both are part of a checkpoint's identity."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from airlab.schema.base import Frozen

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Momentum = Annotated[float, Field(gt=0.0, lt=1.0)]


class TargetModel(Frozen):
    """A Llama-architecture model trained from scratch (AttentionInfluence, table of model sizes)."""

    vocabulary: PositiveInt | Literal["selector"]
    """Size of a byte-level BPE trained on the pool, or `selector` for the selector model's own tokenizer."""
    hidden_size: PositiveInt
    layers: PositiveInt
    heads: PositiveInt
    kv_heads: PositiveInt
    intermediate_size: PositiveInt
    context: PositiveInt
    """Tokens in one training sequence, and the longest position the model knows."""
    tie_embeddings: bool
    rope_base: PositiveFloat = 10_000.0
    initial_std: PositiveFloat = 0.02
    """Standard deviation of every matrix at the start; norms start at 1."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.heads or (self.hidden_size // self.heads) % 2:
            raise ValueError("hidden_size must be heads times an even head size")
        if self.heads % self.kv_heads:
            raise ValueError("heads must be a multiple of kv_heads")
        return self

    def n_parameters(self, vocabulary: int) -> int:
        """Trainable parameters with `vocabulary` tokens."""
        head_size = self.hidden_size // self.heads
        attention = 2 * self.hidden_size * head_size * (self.heads + self.kv_heads)
        layer = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size
        embeddings = vocabulary * self.hidden_size * (1 if self.tie_embeddings else 2)
        return embeddings + self.layers * layer + self.hidden_size


class Optimisation(Frozen):
    """AdamW under a warm-up, stable, decay schedule: what pretraining and fine-tuning set alike."""

    batch_sequences: PositiveInt
    """Packed sequences in an update."""
    learning_rate: PositiveFloat
    warmup_fraction: Fraction
    decay_fraction: Fraction
    decay_shape: Literal["1-sqrt", "linear", "cosine"]
    weight_decay: NonNegativeFloat
    """On matrices only, embeddings included; norms are not decayed."""
    beta1: Momentum = 0.9
    beta2: Momentum = 0.95
    epsilon: PositiveFloat = 1e-8
    gradient_clip: PositiveFloat = 1.0
    """Largest global L2 norm of the gradient."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix products, and on GPUs of what flows from layer to layer in pretraining; weights,
    optimizer and sums of losses are float32 always."""

    @model_validator(mode="after")
    def _fractions_fit(self) -> Self:
        if self.warmup_fraction + self.decay_fraction > 1.0:
            raise ValueError("warmup_fraction and decay_fraction must not add up to more than 1")
        return self


class Training(Optimisation):
    """Pretraining (AttentionInfluence, section 4: warm-up 0.1 %, stable 75 %, decay 25 %).

    The paper's three numbers add up to 100.1 %: the warm-up is read as the beginning of the 75 %.
    """

    budget_tokens: PositiveInt
    """Training tokens of every arm; rounded down to whole batches."""
    warmup_fraction: Fraction = 0.001
    decay_fraction: Fraction = 0.25
    decay_shape: Literal["1-sqrt", "linear", "cosine"] = "1-sqrt"
    weight_decay: NonNegativeFloat = 0.1
