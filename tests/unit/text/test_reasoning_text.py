"""Generated problems: every chain passes its checks, and nobody else's randomness is touched."""

import itertools
import random

import numpy as np
import pytest

pytest.importorskip("engram_generator")

from airlab.schema.text import ReasoningSpec
from airlab.text.reasoning import chains, documents, equations_hold

SPEC = ReasoningSpec(max_tier=2, rounds=3)


def test_every_chain_verifies_when_checked_again() -> None:
    found = list(chains(ReasoningSpec(max_tier=5, rounds=1), 0))
    assert len(found) > 900 and len({chain.text() for chain in found}) == len(found)
    for chain in found:
        assert chain.tier <= 5 and chain.steps and chain.answer and "skip" not in chain.steps
        assert all(equations_hold(step) for step in chain.steps)


def test_chains_are_spread_over_the_generators() -> None:
    tasks = [chain.task for chain in chains(SPEC, 0)]
    assert len(set(tasks)) > 60 and max(map(tasks.count, set(tasks))) <= SPEC.rounds


def test_sums_are_right() -> None:
    sums = [chain for chain in chains(ReasoningSpec(max_tier=0, rounds=30), 1) if chain.task == "addition"]
    assert len(sums) > 10
    for chain in sums:
        first, second = chain.question.split(": ")[1].split(" + ")
        assert int(first) + int(second) == int(chain.answer)


def test_the_seed_decides() -> None:
    first = [list(itertools.islice(documents(SPEC, seed), 10)) for seed in (0, 0, 1)]
    assert first[0] == first[1] != first[2]


def test_global_random_state_stays_as_it_was() -> None:
    before, array_before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    list(itertools.islice(chains(SPEC, 3), 100))
    assert random.getstate() == before and np.random.get_state()[1].tolist() == array_before  # noqa: NPY002


@pytest.mark.parametrize(
    "step",
    [
        "3+5=8",
        "2 \\cdot 4 = 8",
        "v = 2*3 = 6 m",
        "1/3=0.3333",
        "x = y = z",
        "2^{3} = 8",
        "1/0 = 5",
    ],
)
def test_true_and_unreadable_equations_hold(step: str) -> None:
    assert equations_hold(step)


@pytest.mark.parametrize(
    "step", ["3+5=9", "E = 4400000 * 0.0 = 33.5693", "2*3 = 6 = 7", "10/4 = 2", "-9^2=81"]
)
def test_false_equations_do_not(step: str) -> None:
    assert not equations_hold(step)


@pytest.mark.parametrize("number", [0, 3])
def test_a_document_shows_question_numbered_steps_and_answer(number: int) -> None:
    _, text = next(itertools.islice(documents(SPEC, 0), number, None))
    for problem in text.split("\n\n"):
        lines = problem.split("\n")
        assert lines[0].startswith("Question: ") and lines[-1].startswith("Answer: ")
        assert [line.split(":")[0] for line in lines[1:-1]] == [f"Step {n}" for n in range(1, len(lines) - 1)]
