"""Tasks that ask how likely a given text is: held-out documents, worked answers, copies."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from airlab.evaluation.tasks.cutting import cut_bytes
from airlab.evaluation.tasks.items import Document, Item
from airlab.evaluation.tasks.turns import in_turn

_PROBLEM = re.compile(
    r"^(?P<question>Question: .+?)\n(?P<steps>Step 1: .+?)\nAnswer: (?P<answer>.+?)(?=\n\nQuestion: |\s*\Z)",
    re.DOTALL | re.MULTILINE,
)


class Problem(NamedTuple):
    """A worked problem as the `reasoning` documents write it: question, numbered steps, answer."""

    question: str
    steps: str
    answer: str


def pieces(text: str, min_bytes: int, max_bytes: int) -> Iterator[str]:
    """Consecutive pieces of at most `max_bytes` UTF-8 bytes, without those below `min_bytes`."""
    while text:
        piece = cut_bytes(text, max_bytes)
        if not piece:  # a single character is longer than the limit
            return
        if len(piece.encode()) >= min_bytes:
            yield piece
        text = text[len(piece) :]


def text_items(documents: list[Document], min_bytes: int, max_bytes: int, count: int) -> list[Item]:
    """Up to `count` pieces of the documents, first pieces first."""
    per_document = (
        [Item("", (piece,), 0, document.unit_id) for piece in pieces(document.text, min_bytes, max_bytes)]
        for document in documents
    )
    return list(islice(in_turn(per_document), count))


def problems(text: str) -> list[Problem]:
    """The worked problems in a `reasoning` document."""
    return [Problem(match["question"], match["steps"], match["answer"]) for match in _PROBLEM.finditer(text)]


def reasoning_items(documents: list[Document], max_bytes: int, count: int) -> tuple[list[Item], list[Item]]:
    """(worked answer given the question, final answer given question and steps), same problems in both."""
    per_document = (
        [
            (problem, document.unit_id)
            for problem in problems(document.text)
            if len("\n".join(problem).encode()) <= max_bytes
        ]
        for document in documents
    )
    worked, final = [], []
    for (question, steps, answer), unit_id in islice(in_turn(per_document), count):
        worked.append(Item(question, (f"\n{steps}\nAnswer: {answer}",), 0, unit_id))
        final.append(Item(f"{question}\n{steps}\nAnswer:", (f" {answer}",), 0, unit_id))
    return worked, final


def copying_items(vocabulary: list[str], words: int, count: int, rng: np.random.Generator) -> list[Item]:
    """Random word sequences without repeats, each followed by its first word; the rest is to be copied."""
    items = []
    for _ in range(count):
        sequence = [vocabulary[index] for index in rng.choice(len(vocabulary), words, replace=False)]
        rest = "".join(f" {word}" for word in sequence[1:])
        items.append(Item(f"{sequence[0]}{rest}\n{sequence[0]}", (rest,), 0, None))
    return items
