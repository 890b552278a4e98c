"""How a teacher writes answers to the prompts of traces; part of their identity."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from airlab.schema.base import Frozen


class Writing(Frozen):
    """Greedy or sampled answers, all of them or those that end in the known answer."""

    temperature: PositiveFloat | None = None
    """Null is greedy: the likeliest token each time."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of a sampled token: the likeliest ones that together have this probability."""
    samples: PositiveInt = 1
    """Answers a prompt."""
    seed: int = 0
    max_new_tokens: PositiveInt = 1024
    """Tokens of an answer; one that has not ended by then is never kept."""
    keep: Literal["right", "all"] = "right"
    """`right`: only answers that agree with the data's own (`airlab.text.worked.answers.is_right`)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the teacher's weights."""

    @model_validator(mode="after")
    def _samples_differ(self) -> Self:
        if self.temperature is None and (self.samples > 1 or self.top_p < 1):
            raise ValueError("greedy answers to a prompt are all alike: samples and top_p need a temperature")
        return self
