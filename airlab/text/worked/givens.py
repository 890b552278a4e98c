"""Whether a solution uses only what its question says: some of the package's questions leave a given out."""

import itertools
import math
import re

from airlab.text.worked.equations import equations, last_result, mentions

_COMPUTED = re.compile(r"[()|*+/\\^\[\]]|\b(?:sum|mean|total|n)\b")
"""In the name of a number: says that it was worked out, rather than given."""
_COMMON = {0.0, 0.5, 1.0, 2.0, 10.0, 100.0, 180.0, 360.0, 1000.0}
"""Belong to formulas as such."""
_MOST_PAIRED = 24
"""Numbers combined two by two; a long list explains any small number."""


def unexplained(prompt: str, steps: tuple[str, ...]) -> set[float]:
    """Numbers that a solution brings in without saying how, and that no single operation explains.

    They are constants of nature and of formulas, or givens that are missing from the question: constants
    are the same in every problem of a generator.
    """
    given = {float(number) for number in mentions(prompt)}
    known, missing = given | _COMMON, set()
    for step in steps:
        results = {equation.right for equation in equations(step)}
        if (last := last_result(step)) and _COMPUTED.search(step[: last[0]].rpartition(",")[2]):
            results.add(last)
        spans = sorted(results)
        position = 0
        for begin, end in [*spans, (len(step), len(step))]:
            for number in map(float, mentions(step[position:begin])):
                if number not in known and not _explained(number, known, given):
                    missing.add(number)
                known.add(number)
            known |= {float(number) for number in mentions(step[begin:end])}
            position = end
    return missing


def _explained(number: float, known: set[float], given: set[float]) -> bool:
    near = sorted(known)
    for a in near:
        simple = [a + 1, a - 1, 1 - a, a * a, a**3, 2 * a, a / 2, a * 100, a / 100, a * 1000, a / 1000]
        simple += [math.sqrt(a), 1 / a if a else a]
        if any(_same(number, value) for value in simple):
            return True
    if _same(number, sum(given)) or number == len(given):
        return True
    pairs = itertools.combinations(near if len(near) <= _MOST_PAIRED else sorted(given)[:_MOST_PAIRED], 2)
    for a, b in pairs:
        values = [a + b, abs(a - b), a * b, a / b if b else a, b / a if a else b]
        if any(_same(number, value) for value in values):
            return True
    return False


def _same(shown: float, value: float) -> bool:
    return abs(shown - abs(value)) <= 5e-5 + 1e-6 * abs(shown)
