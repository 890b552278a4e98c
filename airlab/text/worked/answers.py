"""Final answers: finding one in what a model wrote, and comparing it as a number."""

import re
from fractions import Fraction
from typing import NamedTuple

MARK = "Answer:"
"""Begins the last line of every solution of the corpus."""

_MARKS = re.compile(r"(?i)(?:\bfinal answer is|\bthe answer is|\banswer\s*[:=]|####)[\s:*]*")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(-?[\d.]+)\s*\}\s*\{\s*(-?[\d.]+)\s*\}")
_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3}(?:,\d{3})+)(?![\d,])")
_POWER_OF_TEN = re.compile(
    r"(?<!\s)\s*+(?:\\times|\\cdot|×|\*)\s*10\s*\^?\s*(?:\{\s*([-+]?\d+)\s*\}|([-+]?\d+))"
)
_UNIT_POWER = re.compile(r"(?<=[A-Za-z])\^?\{?[-+]?\d+\}?")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?:\s*/\s*[-+]?\d+(?:\.\d+)?)?")
_LONGEST = 60
"""Characters of a number; a model may write digits without end."""
_LARGEST_EXPONENT = 300
_DECIMALS = Fraction(1, 20000)
"""Half a unit of the fourth decimal, to which the generators round."""


class Number(NamedTuple):
    """A value and the unit written behind it, if any."""

    value: Fraction
    unit: str


def number_in(text: str) -> Number | None:
    """The one number an answer states, after its last ``=``; None if there is none or more than one.

    Understands signs, decimals, thousands separators, a/b, ``\\frac{a}{b}``, exponents and powers of ten,
    and markup around them. Digits inside units (``m^2``) are not numbers.
    """
    said = text.rsplit("=", 1)[-1].replace("−", "-").replace("\\,", "").replace("\\ ", " ")
    said = re.sub(r"\\(?:boxed|text|mathrm)\s*\{([^{}]*)\}?", r"\1", said)
    said = _LATEX_FRACTION.sub(r"\1/\2", said)
    said = _THOUSANDS.sub(lambda match: match.group().replace(",", ""), said)
    said = _POWER_OF_TEN.sub(lambda match: f"e{match.group(1) or match.group(2)}", said)
    said = re.sub(r"\*\*|\$|\\[()\[\]]", "", said)
    said = re.sub(r"-\s+(?=[\d.])", "-", said)
    said = _UNIT_POWER.sub(lambda match: match.group() if _is_exponent(said, match.start()) else "", said)
    numbers = list(_NUMBER.finditer(said))
    if len(numbers) != 1 or len(numbers[0].group()) > _LONGEST:
        return None
    value = _fraction(numbers[0].group())
    before = said[: numbers[0].start()]
    if value is None or re.search(r"[\w.]$", before[-2:]):
        return None
    return Number(value, said[numbers[0].end() :].strip(" .,;:!*\n\t\r"))


def answer_in(generated: str) -> str:
    """The final answer in what a model wrote: behind the last mark of the first paragraph that has one.

    What follows a blank line after the answer is ignored: models go on with another problem. Without a mark
    it is the last line.
    """
    first = _MARKS.search(generated)
    if first is None:
        lines = [line for line in generated.splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""
    rest = generated[first.end() :].lstrip("\n ")
    paragraph = re.split(r"\n\s*\n", rest, maxsplit=1)[0]
    last = paragraph
    for mark in _MARKS.finditer(paragraph):
        last = paragraph[mark.end() :]
    return last.strip().split("\n", 1)[0].strip()


def is_right(generated: str, answer: str) -> bool:
    """Whether what a model wrote ends in the answer.

    Numbers are compared as numbers: 66.0, 132/2 and 6.6e1 are 66. A whole number must be met exactly, any
    other to half a unit of the fourth decimal, or to that share of it if it is larger than one. Units count
    only where both state one. An answer that is no number must be met word for word, but for case and spaces.

    Args:
        generated: all of the model's text, or only its answer.
        answer: as `Problem.answer`; ``x = 3 cm`` is the number 3 with the unit cm.
    """
    said, expected = number_in(answer_in(generated)), number_in(answer)
    if expected is None:
        return _words(answer_in(generated)) == _words(answer)
    if said is None or (said.unit and expected.unit and _words(said.unit) != _words(expected.unit)):
        return False
    if expected.value.denominator == 1:
        return said.value == expected.value
    return abs(said.value - expected.value) <= _DECIMALS * max(Fraction(1), abs(expected.value))


def _fraction(text: str) -> Fraction | None:
    exponent = re.search(r"[eE]([-+]?\d+)", text)
    if exponent and abs(int(exponent.group(1))) > _LARGEST_EXPONENT:
        return None
    above, _, below = text.replace(" ", "").partition("/")
    divisor = Fraction(below) if below else Fraction(1)
    return Fraction(above) / divisor if divisor else None


def _is_exponent(text: str, position: int) -> bool:
    """Whether the digits at a position belong to a number such as 1e-5."""
    return re.search(r"\d\.?[eE]$", text[max(0, position - 3) : position]) is not None


def _words(text: str) -> str:
    return " ".join(text.casefold().strip(" .").split())
