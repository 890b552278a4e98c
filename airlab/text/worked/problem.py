"""A checked problem with a solution, and the same solution with an error that reaches the answer.

Only problems that allow every variant are used, so that a variant says nothing about the problem.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from airlab.text.reasoning import Chain
from airlab.text.worked.answers import is_right, number_in
from airlab.text.worked.equations import (
    equations,
    evaluate,
    holds,
    last_result,
    mentions,
    open_expression,
    replaced,
    shown,
)

_DELIMITERS = re.compile(r"[\n\r\u2028\u2029$`]|~~~|\\[\[\]()]|\\(begin|end)\b|Answer:")
"""What step separators, LaTeX's and code's marks need for themselves."""
_SAID = re.compile(r"=\s*-?(\d+(?:\.\d+)?)")
_LEAST_ERROR = 0.01
"""Share of the right value by which a wrong one is off at least."""
_ATTEMPTS = 6
"""Wrong values tried for a step; some turn a later sign, which the solution's wording would not follow."""


class Error(NamedTuple):
    """A solution with one false value that is carried on to a wrong answer."""

    step: int
    """The step that is false."""
    steps: tuple[str, ...]
    answer: str
    first_use: int
    """The first step that follows from the false one."""


@dataclass(frozen=True)
class Problem:
    """A problem, its checked solution step by step, and an error it allows."""

    task: str
    tier: int
    difficulty: int
    prompt: str
    steps: tuple[str, ...]
    answer: str
    error: Error
    feeds: tuple[bool, ...]
    """For each step, whether it finds a number that a later step in turn feeds on, or the answer."""


class Refused(NamedTuple):
    """Why a chain cannot be used."""

    reason: str


def problem(chain: Chain, min_steps: int, max_steps: int, rng: random.Random) -> Problem | Refused:
    """The problem of a chain, with an error drawn from `rng`; or why it is no use."""
    steps, answer = chain.steps, chain.answer
    if not min_steps <= len(steps) <= max_steps:
        return Refused("too few or too many steps")
    if _DELIMITERS.search("".join((chain.question, *steps, answer))):
        return Refused("holds characters that separate steps")
    if len(set(steps)) < len(steps):
        return Refused("repeats a step by itself")
    if number_in(answer) is None or answer.count("=") > 1 or "," in answer:
        return Refused("the answer is not one number")
    if len(mentions(answer.rpartition("=")[2])) != 1:
        return Refused("the answer is not one number")
    if not all(holds(step) for step in steps):
        return Refused("an equation does not hold")
    error = _draw_error(chain, rng)
    if error is None:
        return Refused("no error that reaches the answer by plain arithmetic")
    return Problem(
        chain.task,
        chain.tier,
        chain.difficulty,
        chain.question,
        steps,
        answer,
        error,
        feeds(chain.question, steps, answer),
    )


def feeds(prompt: str, steps: tuple[str, ...], answer: str) -> tuple[bool, ...]:
    """For each step, whether it says a number not seen before that the answer or a feeding step shows.

    Said is what stands behind an equals sign; the last step may leave the sum to the answer.

    A number that happens to occur twice counts as used, so a step may be called feeding in error.
    """
    seen = {float(number) for number in mentions(prompt)}
    new: list[set[float]] = []
    for step in steps:
        here = {float(number) for number in mentions(step)}
        new.append({float(number) for number in _SAID.findall(step)} - seen)
        seen |= here
    wanted = {float(number) for number in mentions(answer)}
    found = [False] * len(steps)
    for index in reversed(range(len(steps))):
        last = open_expression(steps[index]) if index == len(steps) - 1 else None
        found[index] = last is not None or bool(new[index] & wanted)
        if found[index]:
            wanted |= {float(number) for number in mentions(steps[index])}
    return tuple(found)


def _draw_error(chain: Chain, rng: random.Random) -> Error | None:
    """An error at a random one of the steps that allow one and that a later step follows from."""
    places = [index for index, step in enumerate(chain.steps[:-1]) if _may_change(chain, index)]
    rng.shuffle(places)
    for place in places:
        for value in _wrong_values(chain, place, rng):
            error = carry(chain, place, value)
            if error is not None:
                return error
    return None


def _may_change(chain: Chain, place: int) -> bool:
    """Whether the last result of a step is a number that first occurs there, once, and occurs again later."""
    if (result := last_result(chain.steps[place])) is None:
        return False
    before, right, after = _around(chain.steps[place], result)
    earlier = {
        float(number)
        for text in (chain.question, *chain.steps[:place], before, after)
        for number in mentions(text)
    }
    later = {float(number) for text in chain.steps[place + 1 :] for number in mentions(text)}
    return float(right) in later - earlier


def _wrong_values(chain: Chain, place: int, rng: random.Random) -> Iterator[str]:
    """Numbers as long as the right one, without sign, that look like a slip: a digit, or two swapped."""
    step = chain.steps[place]
    before, right, after = _around(step, last_result(step))
    for _ in range(_ATTEMPTS):
        digits = list(right)
        places = [index for index, digit in enumerate(digits) if digit.isdigit()]
        at = rng.choice(places)
        neighbour = at + 1 if at + 1 in places else at - 1
        if neighbour in places and rng.random() < 0.3:
            digits[at], digits[neighbour] = digits[neighbour], digits[at]
        elif rng.random() < 0.5:
            digits[at] = str((int(digits[at]) + rng.choice((-1, 1))) % 10)
        else:
            digits[at] = str(rng.randrange(10))
        wrong = "".join(digits)
        if re.fullmatch(r"0\d+.*|0+(\.0*)?", wrong) or wrong == right:
            continue
        if _arithmetic(step) and holds(f"{before}{wrong}{after}"):
            continue
        if abs(float(wrong) - float(right)) > _LEAST_ERROR * float(right):
            yield wrong


def carry(chain: Chain, place: int, wrong: str) -> Error | None:
    """The solution with another last result of step `place` (a size, without sign), and all that follows.

    None if it cannot be done without doubt: the right result is in the question or an earlier step, is
    mentioned where nothing can be recomputed, a sign would turn, the answer would stay right, only the answer
    would change, or the wrong number stands somewhere already.
    """
    if not _may_change(chain, place):
        return None
    steps = list(chain.steps)
    before, right, after = _around(steps[place], last_result(steps[place]))
    key = float(right)
    earlier = {
        float(number) for text in (chain.question, *steps[:place], before) for number in mentions(text)
    }
    later = {float(number) for text in chain.steps[place:] for number in mentions(text)}
    if float(wrong) in earlier | later:
        return None
    steps[place] = f"{before}{wrong}{after}"
    changes, first_use = {key: wrong}, len(steps)
    fixed = earlier | {float(number) for number in mentions(steps[place])}
    for index in range(place + 1, len(steps)):
        following = _rewritten(steps[index], changes, fixed)
        if following is None:
            return None
        if following != steps[index]:
            first_use = min(first_use, index)
        fixed |= {float(number) for number in mentions(steps[index])} - set(changes)
        steps[index] = following
    answer = _carried_answer(chain, steps[-1], changes)
    if answer is None or first_use == len(steps) or is_right(answer, chain.answer):
        return None
    if _arithmetic(chain.steps[place]) and holds(steps[place]):
        return None
    if not all(holds(step) for index, step in enumerate(steps) if index != place):
        return None
    return Error(place, tuple(steps), answer, first_use)


def _arithmetic(step: str) -> bool:
    """Whether a step's last result is that of an equation that can be checked."""
    return bool(found := equations(step)) and found[-1].right == last_result(step)


def _around(step: str, result: tuple[int, int] | None) -> tuple[str, str, str]:
    """A step cut into what precedes the size of a result, the size, and the rest."""
    assert result is not None
    begin, end = result
    size = step[begin:end].lstrip("-")
    return step[: end - len(size)], size, step[end:]


def _rewritten(step: str, changes: dict[float, str], fixed: set[float]) -> str | None:
    """The step with changed numbers put in and results recomputed; the results' changes are added.

    None where a changed number is mentioned outside plain arithmetic, or a result that has to change
    is a number (among `fixed`) that stands for something else too.
    """
    pieces, position = [], 0
    for equation in equations(step):
        before, size, _ = _around(step, equation.right)
        pieces.append(step[position : equation.left[0]])
        if _mentioned(pieces[-1], changes):
            return None
        expression = step[slice(*equation.left)]
        changed = replaced(expression, changes)
        pieces.append(changed + before[equation.left[1] :])
        position = equation.right[1]
        if changed == expression:
            if float(size) in changes:
                return None
            pieces.append(size)
            continue
        value = evaluate(changed)
        if value is None or value == 0 or (value < 0) != before.endswith("-"):
            return None
        if float(size) in fixed or float(size) in changes:
            return None
        changes[float(size)] = shown(value, size)
        pieces.append(changes[float(size)])
    rest = step[position:]
    if span := open_expression(rest):
        pieces += [rest[: span[0]], replaced(rest[span[0] :], changes)]
        return None if _mentioned(rest[: span[0]], changes) else "".join(pieces)
    return None if _mentioned(rest, changes) else "".join([*pieces, rest])


def _mentioned(text: str, changes: dict[float, str]) -> bool:
    return any(float(number) in changes for number in mentions(text))


def _carried_answer(chain: Chain, last: str, changes: dict[float, str]) -> str | None:
    """The answer that follows from the changed numbers, or from the last step's expression."""
    label, equals, said = chain.answer.rpartition("=")
    if _mentioned(label, changes):
        return None
    (number,) = mentions(said)
    begin = re.search(re.escape(number), said)
    assert begin is not None
    negative = said[: begin.start()].rstrip().endswith("-")
    old_span, new_span = open_expression(chain.steps[-1]), open_expression(last)
    if float(number) in changes:
        new = changes[float(number)]
    elif old_span and new_span:
        old, value = evaluate(chain.steps[-1][slice(*old_span)]), evaluate(last[slice(*new_span)])
        if old is None or value is None or shown(old, number) != number or (old < 0) != negative:
            return None
        if value == 0 or (value < 0) != negative:
            return None
        new = shown(value, number)
    else:
        return None
    return f"{label}{equals}{said[: begin.start()]}{new}{said[begin.end() :]}"
