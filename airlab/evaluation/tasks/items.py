"""The values a task is made of, before they become lm-eval files."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Document:
    """A held-out document."""

    unit_id: str
    domain: str
    source: str
    text: str


@dataclass(frozen=True)
class Item:
    """One question.

    `choices` holds the right answer alone for likelihood tasks and the whole text for bits per byte
    (with an empty prompt); `answer` is the index of the right choice. `cluster` names the document an
    item was taken from, or the generator that made it (None where items have nothing in common): items of
    a cluster are not independent.
    """

    prompt: str
    choices: tuple[str, ...]
    answer: int
    cluster: str | None
    given: str = ""
    """Of answers to worked problems: how the answer begins, which the model is shown."""


@dataclass(frozen=True)
class BuiltTask:
    """A task's name, how lm-eval asks it, and its items in order."""

    name: str
    form: Literal["rolling", "likelihood", "choice", "solution", "continuation"]
    """The last two are turns of a conversation: to be written, and to be read."""
    metrics: tuple[str, ...]
    items: tuple[Item, ...]
    chance: float | None
    """Accuracy of guessing; None where there is nothing to guess among."""
