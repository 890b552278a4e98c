"""What a selector may ask for besides the LossTable: measurements that other stages make."""

from dataclasses import dataclass
from typing import Literal

from airlab.schema.models import HubModel


@dataclass(frozen=True)
class ControlMask:
    """A reference model that differs from the experiment's own in what is masked, or how.

    Attributes:
        mode: how heads are masked; None leaves the experiment's mode.
        random_draw: mask random heads, as many in each layer as there are retrieval heads; the number
            of the draw. None leaves the retrieval heads.
    """

    mode: Literal["uniform", "zero"] | None = None
    random_draw: int | None = None


@dataclass(frozen=True)
class Statistics:
    """Columns `compression_ratio`, `repetition` (`airlab.text.statistics`)."""

    def __str__(self) -> str:
        return "statistics of the texts"


@dataclass(frozen=True)
class ScoresOf:
    """Column `score` of another selector, named as the experiment's arm or by its kind."""

    name: str

    def __str__(self) -> str:
        return f"the scores of {self.name}"


@dataclass(frozen=True)
class LossesOf:
    """Columns `n_tokens`, `loss_sum_base` of another model."""

    model: HubModel

    def __str__(self) -> str:
        return f"the losses of {self.model.name}"


@dataclass(frozen=True)
class ClassifierScores:
    """Column `score` of a sequence-classification model.

    Attributes:
        output: which of the model's outputs; None where it has one.
        max_tokens: what is read of each document.
    """

    model: HubModel
    output: int | None
    max_tokens: int

    def __str__(self) -> str:
        return f"the scores of {self.model.name}"


@dataclass(frozen=True)
class HalfLosses:
    """Columns `n_tokens_first`, `loss_sum_first`, `n_tokens_second`, `loss_sum_second` of the base model.

    Each half of a document on its own; no tokens where there is no half, or nothing to predict in it. Of a
    trace the second half is the response; the prompt, whose losses are not counted there, has no tokens.
    """

    def __str__(self) -> str:
        return "the losses of the halves on their own"


@dataclass(frozen=True)
class CuratedOrder:
    """Column `order`: the rank, 1 the best, that the data's curators gave a trace; no number where none."""

    def __str__(self) -> str:
        return "the curators' order"


@dataclass(frozen=True)
class TaskTexts:
    """Column `text`, a row a text of the target and not a unit: questions with their right answers.

    Attributes:
        task: a task of the experiment's evaluation, by its name there; its held-out items are not among them.
    """

    task: str

    def __str__(self) -> str:
        return f"texts of the task {self.task}"


@dataclass(frozen=True)
class BenchmarkTexts:
    """Column `text`, a row a text of the target and not a unit: questions with their right answers.

    Attributes:
        benchmark: one of the harness's own, by its name there; items that it evaluates are not among them.
    """

    benchmark: str

    def __str__(self) -> str:
        return f"texts of the benchmark {self.benchmark}"


TargetTexts = TaskTexts | BenchmarkTexts
"""Not measured of the units: what they are to be like."""

Need = Statistics | ScoresOf | LossesOf | ClassifierScores | HalfLosses | CuratedOrder | TargetTexts
