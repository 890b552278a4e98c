"""How the scores of steps become weights of their tokens in fine-tuning."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from airlab.schema.base import Frozen

Share = Annotated[float, Field(gt=0, le=1)]
Floor = Annotated[float, Field(ge=0, lt=1)]


class _Within(Frozen):
    scope: Literal["trace", "corpus"] = "trace"
    """Whether a step competes with the steps of its trace, so that every trace weighs as much as in plain
    fine-tuning, or with all steps, so that traces too get different weights."""


class LinearWeights(_Within):
    """Rises in proportion from the lowest score to the highest."""

    kind: Literal["linear"]
    floor: Floor = 0.0
    """Weight of the lowest score as a share of the highest's."""


class SoftmaxWeights(_Within):
    """Proportional to exp(score / (temperature · spread))."""

    kind: Literal["softmax"]
    temperature: PositiveFloat = 1.0
    """In standard deviations of the whole corpus' scores by token: it means the same for every score."""


class RankWeights(_Within):
    """Proportional to the score's rank: what a step is at or above, in (0, 1); equal scores share theirs."""

    kind: Literal["rank"]
    floor: Floor = 0.0
    """What the lowest rank's weight is raised to, as a share of the highest possible."""


class ClippedWeights(_Within):
    """Linear between two quantiles of the scores by token, constant beyond: outliers cannot take all."""

    kind: Literal["clipped"]
    lower: float = Field(default=0.1, ge=0, lt=1)
    upper: float = Field(default=0.9, gt=0, le=1)
    floor: Floor = 0.1
    """Weight at and below the lower quantile as a share of that at the upper."""

    @model_validator(mode="after")
    def _ordered(self) -> "ClippedWeights":
        if self.lower >= self.upper:
            raise ValueError("the lower quantile must be below the upper")
        return self


class TopShareWeights(_Within):
    """A mask: the steps of the highest scores until they hold the share of the tokens; others weigh nothing.

    All steps that tie with the last one taken are taken too.
    """

    kind: Literal["top_share"]
    share: Share = 0.5


StepWeights = Annotated[
    LinearWeights | SoftmaxWeights | RankWeights | ClippedWeights | TopShareWeights,
    Field(discriminator="kind"),
]
