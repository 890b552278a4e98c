"""Solutions of one problem, clean or spoilt in one known way, with the kind of every step."""

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from airlab.schema.worked_problems import StepKind, Variant
from airlab.text.worked.answers import MARK
from airlab.text.worked.phrases import correction, led_in, padding, repetition
from airlab.text.worked.problem import Problem


class Step(NamedTuple):
    """One line of a response."""

    text: str
    kind: StepKind
    origin: int | None = None
    """The step of the checked solution that it is, or is a false or carried form of."""


@dataclass(frozen=True)
class Solution:
    """A response whose lines are its steps; the last is the answer."""

    variant: Variant
    steps: tuple[Step, ...]

    @property
    def response(self) -> str:
        """The text: one step a line, no line end at the end."""
        return "\n".join(step.text for step in self.steps)

    @property
    def step_ends(self) -> tuple[int, ...]:
        """Where each step ends, in characters; a line's end belongs to the step before it."""
        ends = list(itertools.accumulate(len(step.text) + 1 for step in self.steps))
        return (*ends[:-1], ends[-1] - 1)


def solution(
    problem: Problem, variant: Variant, *, inserted: float, lead_ins: float, rng: random.Random
) -> Solution:
    """The problem's solution as a variant.

    Args:
        inserted: padded or redundant steps for each of the solution's own.
        lead_ins: share of the solution's own steps that begin with words of transition.
    """
    own = [Step(led_in(text, lead_ins, rng), "clean", number) for number, text in enumerate(problem.steps)]
    answer = Step(f"{MARK} {problem.answer}", "answer")
    count = max(1, round(inserted * len(own)))
    makers: dict[Variant, Callable[[], Sequence[Step]]] = {
        "clean": lambda: (*own, answer),
        "padded": lambda: (*_padded(problem, own, count, rng), answer),
        "redundant": lambda: (*_redundant(problem, own, count, rng), answer),
        "wrong_carried": lambda: _wrong_carried(problem, own),
        "wrong_corrected": lambda: (*_wrong_corrected(problem, own, rng), answer),
        "shuffled": lambda: (*_shuffled(own, rng), answer),
        "answer_only": lambda: (answer,),
    }
    return Solution(variant, tuple(makers[variant]()))


def _padded(problem: Problem, own: list[Step], count: int, rng: random.Random) -> list[Step]:
    """Padding as long as the solution's own steps, anywhere before the answer."""
    steps = list(own)
    used: list[str] = []
    for _ in range(count):
        used.append(padding(problem.prompt, len(rng.choice(own).text), used, rng))
    for text in used:
        steps.insert(rng.randint(0, len(steps)), Step(text, "padded"))
    return steps


def _redundant(problem: Problem, own: list[Step], count: int, rng: random.Random) -> list[Step]:
    """Steps said again, anywhere after they were said first."""
    steps = list(own)
    for _ in range(count):
        origin = rng.randrange(len(own))
        first = steps.index(own[origin])
        steps.insert(
            rng.randint(first + 1, len(steps)), Step(repetition(problem.steps[origin], rng), "redundant")
        )
    return steps


def _wrong_carried(problem: Problem, own: list[Step]) -> list[Step]:
    error = problem.error
    steps = []
    for number, (step, text) in enumerate(zip(own, error.steps, strict=True)):
        kind: StepKind = "clean" if text == problem.steps[number] else "carried"
        if number == error.step:
            kind = "wrong"
        led = step.text.removesuffix(problem.steps[number])
        steps.append(Step(led + text, kind, number))
    return [*steps, Step(f"{MARK} {error.answer}", "answer")]


def _wrong_corrected(problem: Problem, own: list[Step], rng: random.Random) -> list[Step]:
    """The false step, taken back before anything is made of it."""
    error = problem.error
    led = own[error.step].text.removesuffix(problem.steps[error.step])
    steps = list(own)
    steps[error.step] = Step(led + error.steps[error.step], "wrong", error.step)
    right = Step(correction(problem.steps[error.step], rng), "correction", error.step)
    steps.insert(rng.randint(error.step + 1, error.first_use), right)
    return steps


def _shuffled(own: list[Step], rng: random.Random) -> list[Step]:
    """The steps in another order; their lead-ins stay with their places, so that they do not tell."""
    steps = list(own)
    while steps == own:
        rng.shuffle(steps)
    return steps
