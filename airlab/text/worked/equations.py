"""The equations that a step shows as plain arithmetic: finding, checking and recomputing them."""

import re
from functools import lru_cache
from typing import NamedTuple

from airlab.text.reasoning import equations_hold, value_of

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_MENTION = re.compile(r"(?<![\d.])\d+(?:\.\d+)?(?!\.?\d)")
_RESULT = re.compile(r"\s*(-?\d+(?:\.\d+)?)(?=$|\.?$|\s*[,;)]|\s*=|\s+[A-Za-z(])")
_CLAUSE = re.compile(r"=|[,;:]\s|\.\s")
_OPERATION = re.compile(r"\d\s*\)*\s*[-+*/^]\s*\(*\s*-?\s*\d")
_ROOT = re.compile(r"\\?sqrt\s*[({]([\d.+\-*/^ ]+)[)}]")
_PI = re.compile(r"\\?(?<![A-Za-z])pi(?![A-Za-z])")
_PI_VALUE = "3.141592653589793"
_MOST = 1e12
"""Beyond it products of whole numbers lose digits."""


class Equation(NamedTuple):
    """An arithmetic expression and the number it is said to be; character spans in the step."""

    left: tuple[int, int]
    right: tuple[int, int]
    value: float
    """Of the left side."""


@lru_cache(maxsize=4096)
def equations(step: str) -> tuple[Equation, ...]:
    """Every ``expression = number`` of a step whose left side is plain arithmetic, in order."""
    found = []
    for sign in re.finditer("=", step):
        result = _RESULT.match(step, sign.end())
        begin = _clause_start(step, sign.start())
        value = _expression(step[begin : sign.start()])
        if result and value is not None:
            found.append(Equation((begin, sign.start()), result.span(1), value))
    return tuple(found)


@lru_cache(maxsize=4096)
def last_result(step: str) -> tuple[int, int] | None:
    """Span of the number behind a step's last ``=``, whether arithmetic or a name stands before it."""
    sign = step.rfind("=")
    result = _RESULT.match(step, sign + 1) if sign > 0 else None
    return result.span(1) if result else None


@lru_cache(maxsize=4096)
def open_expression(step: str) -> tuple[int, int] | None:
    """Span of plain arithmetic at a step's end whose value the step does not say."""
    begin = _clause_start(step, len(step))
    return (begin, len(step)) if _expression(step[begin:]) is not None else None


def holds(step: str) -> bool:
    """Whether every equation of a step is true to the digits it shows."""
    return all(
        equations_hold(_plain(f"{step[slice(*equation.left)]}={step[slice(*equation.right)]}"))
        for equation in equations(step)
    )


def evaluate(expression: str) -> float | None:
    """The value of plain arithmetic; None for anything else, and for what is too large to be exact."""
    return _expression(expression)


def mentions(text: str) -> list[str]:
    """The numbers in a text, without their signs, as they are written."""
    return _MENTION.findall(text)


def replaced(expression: str, changes: dict[float, str]) -> str:
    """Plain arithmetic with some of its numbers replaced; keys are values without sign."""
    return _NUMBER.sub(lambda match: changes.get(float(match.group()), match.group()), expression)


def shown(value: float, like: str) -> str:
    """A number without its sign in the way the package writes them: four decimals, or as many as `like`."""
    decimals = len(like.partition(".")[2])
    size = abs(value)
    if not decimals and size == round(size):
        return str(round(size))
    text = f"{size:.{max(decimals, 4)}f}".rstrip("0")
    return text + "0" if text.endswith(".") and decimals else text.rstrip(".")


def _clause_start(step: str, end: int) -> int:
    begin = 0
    for mark in _CLAUSE.finditer(step, 0, end):
        begin = mark.end()
    return begin


def _expression(text: str) -> float | None:
    text = _plain(text).strip()
    if not _OPERATION.search(text):
        return None
    value = value_of(text)
    return value if value is not None and abs(value) < _MOST else None


def _plain(text: str) -> str:
    for sign, plain in (("\\cdot", "*"), ("\\times", "*"), ("−", "-"), ("×", "*")):
        text = text.replace(sign, plain)
    text = _PI.sub(_PI_VALUE, text)
    text = _ROOT.sub(r"((\1)^0.5)", text)
    return re.sub(r"\^\{(-?\d+)\}", r"^(\1)", text)
