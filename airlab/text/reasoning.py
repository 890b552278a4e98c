"""Question-and-reasoning text from engram-generator: worked problems whose every chain is checked.

A chain is kept where the package can recompute its answer with another library, or has checked the
generator against textbook examples, and where every purely numeric equation in its steps holds.
"""

import ast
import copy
import itertools
import operator
import random
import re
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from airlab.errors import UserError
from airlab.randomness import derive_seed
from airlab.schema.text import ReasoningSpec

PACKAGE, VERSION = "engram-generator", "0.3.0"
LICENCE = "MIT"

# Its samples follow Python's string hashing, so another process would write other text.
_NOT_REPRODUCIBLE = {"open_reading_frame"}


class Chain(NamedTuple):
    """One worked problem."""

    task: str
    tier: int
    question: str
    steps: tuple[str, ...]
    answer: str
    difficulty: int
    """Within its generator, 1 to 8; more digits, terms or iterations where the generator heeds it."""

    def text(self) -> str:
        """The problem as a document shows it: question, numbered steps, answer."""
        steps = "".join(f"Step {number}: {step}\n" for number, step in enumerate(self.steps, 1))
        return f"Question: {self.question}\n{steps}Answer: {self.answer}"


def chains(spec: ReasoningSpec, seed: int) -> Iterator[Chain]:
    """Checked, distinct problems; each round draws one from every generator, in a fresh seeded order.

    Depends on `spec.max_tier`, `spec.rounds` and the seed only; no global random state is read or changed.
    """
    found = drawers(spec.max_tier, seed)
    seen: set[str] = set()
    for turn in range(spec.rounds):
        order = list(found)
        random.Random(derive_seed(seed, "order of generators", turn)).shuffle(order)
        for drawer in order:
            chain = drawer.draw()
            if chain is not None and (text := chain.text()) not in seen:
                seen.add(text)
                yield chain


def documents(spec: ReasoningSpec, seed: int) -> Iterator[tuple[str, str]]:
    """(member, text): `problems_per_document` consecutive chains joined; the member names their tasks."""
    held: list[Chain] = []
    for chain in chains(spec, seed):
        held.append(chain)
        if len(held) == spec.problems_per_document:
            yield "+".join(item.task for item in held), "\n\n".join(item.text() for item in held)
            held.clear()


def source() -> str:
    """``name==version`` of the generator; `UserError` unless that version is installed."""
    try:
        found = version(PACKAGE)
    except PackageNotFoundError:
        found = "none"
    if found != VERSION:
        raise UserError(
            f"Generated reasoning needs {PACKAGE}=={VERSION}, found {found}: install airlab[offline], "
            f"or set corpus.reasoning=null and leave out the domain 'reasoning'."
        )
    return f"{PACKAGE}=={VERSION}"


def drawers(max_tier: int, seed: int) -> list["Drawer"]:
    """A drawer for each checked generator up to the tier, in the order of their names."""
    source()
    from engram_generator.curriculum.registry import get_all_generators
    from engram_generator.validation.example_verifier import ExampleVerifier
    from engram_generator.validation.library_verifier import LibraryVerifier

    recompute, textbook = LibraryVerifier(), ExampleVerifier()
    found: dict[str, Drawer] = {}
    for generator in get_all_generators():
        name = str(generator.task_name)
        if generator.tier > max_tier or name in _NOT_REPRODUCIBLE:
            continue
        if recompute.can_verify(name):
            found[name] = Drawer(generator, recompute, seed)
        elif textbook.verify(name).match is True:
            found[name] = Drawer(generator, None, seed)
    return [found[name] for name in sorted(found)]


class Drawer:
    """One generator with its own random stream, which remembers what it needs to check a sample."""

    def __init__(self, generator: Any, verifier: Any, seed: int) -> None:
        self.task = str(generator.task_name)
        self.tier = int(generator.tier)
        self._original = generator
        self._generator = copy.copy(generator)  # the registry's instances are shared
        self._generator._rng = random.Random(derive_seed(seed, "problems", generator.task_name))
        self._create: Callable[[int], tuple[str, dict[str, Any]]] = self._generator._create_problem
        self._generator._create_problem = self._remember
        self._solution: dict[str, Any] = {}
        self._verifier = verifier
        """Recomputes answers by another library; None where the generator was checked against a textbook."""

    def again(self, seed: int, lowest: int, highest: int) -> "Drawer":
        """The same generator with a stream of its own, restricted to a range of difficulties."""
        drawer = Drawer(self._original, self._verifier, seed)
        drawer._generator.set_difficulty(lowest, highest)
        return drawer

    def _remember(self, difficulty: int) -> tuple[str, dict[str, Any]]:
        problem, self._solution = self._create(difficulty)
        return problem, self._solution

    def draw(self) -> Chain | None:
        """The next problem; None where it fails a check."""
        sample = self._generator.generate(1)[0]
        steps = tuple(step.strip() for step in sample.steps if step.strip())
        if sample.problem == "skip" or not steps or not sample.answer.strip():
            return None
        if self._verifier is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a check that divides by zero fails, which is all we ask
                result = self._verifier.verify(sample.task_name, self._solution, sample.answer)
            if result.match is not True:
                return None
        if not all(equations_hold(step) for step in steps):
            return None
        question = (
            f"{sample.input_text[:1].upper()}{sample.input_text[1:].rstrip('.')}: {sample.problem.strip()}"
        )
        return Chain(sample.task_name, sample.tier, question, steps, sample.answer.strip(), sample.difficulty)


_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_NUMERIC = re.compile(r"[\d.+\-*/^() ]+")


def equations_hold(step: str) -> bool:
    """False if two neighbouring purely numeric sides of ``=`` differ by more than the digits shown allow."""
    plain = step.replace("\\cdot", "*").replace("\\times", "*").replace("−", "-").replace("×", "*")
    plain = re.sub(r"\^\{(-?\d+)\}", r"^(\1)", plain)
    for clause in re.split(r"[,;:]\s|\.\s", plain):
        sides = [side.strip().rstrip(".") for side in clause.split("=")]
        for left, right in itertools.pairwise(sides):
            values = value_of(left), value_of(right)
            if values[0] is None or values[1] is None:
                continue
            # A shown number stands for half a unit of its last digit, and products carry that on.
            coarse = max(_last_digit(left), _last_digit(right))
            if abs(values[0] - values[1]) > coarse + 5e-3 * max(abs(values[0]), abs(values[1])):
                return False
    return True


def _last_digit(text: str) -> float:
    decimals = [len(match) for match in re.findall(r"\.(\d+)", text)]
    return 10.0 ** -max(decimals) if decimals else 0.0


def value_of(text: str) -> float | None:
    """Value of an arithmetic expression of plain numbers; None for anything else."""
    if not text or len(text) > 200 or not _NUMERIC.fullmatch(text) or not re.search(r"\d", text):
        return None
    if re.search(r"\d\s+[\d(]|\)\s*[\d(]|\d\(", text):
        return None  # lists of numbers and products without a sign
    try:
        return _evaluate(ast.parse(text.replace("^", "**"), mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, TypeError):
        return None


def _evaluate(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluate(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        value = _OPERATORS[type(node.op)](_evaluate(node.left), _evaluate(node.right))
        if isinstance(value, complex):
            raise ValueError("not a real number")
        return value
    raise ValueError("not arithmetic")
