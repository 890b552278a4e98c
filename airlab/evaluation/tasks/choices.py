"""Multiple-choice tasks: the right answer stands in the context, or in the document itself."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np

from airlab.evaluation.tasks.cutting import cut_words, split_passage
from airlab.evaluation.tasks.items import Document, Item
from airlab.evaluation.tasks.turns import in_turn

SHORTEST_ANSWER = 16
"""Bytes; an answer below this says too little to be told from a wrong one."""

_STEP = re.compile(r"^[ \t]*(?:Step[ \t]+)?(\d{1,2})[.):][ \t]+(\S.*)$", re.MULTILINE)
_FUNCTION = re.compile(
    r"^[ \t]*(?P<signature>def [a-z]\w*\([^()]{0,80}\)[^:\n]{0,30}:)\n"
    r'[ \t]*r?"""\s*(?P<summary>[A-Z][^\n"]+)',
    re.MULTILINE,
)
_REFERENCE = re.compile(
    r"^(?P<signature>(?:[A-Za-z]\w*\.)*[A-Za-z]\w*\([^\n]*\))\n\n(?P<summary>[A-Z][^\n]+)", re.MULTILINE
)
_TITLE = re.compile(r"\A[ \t]*(?P<title>\S[^\n]{1,79})\n[ \t]*\n\s*(?=\S)")
_ENTRY = re.compile(
    r"(?:\A|\n\n)(?P<word>[A-Za-z][A-Za-z' -]{1,30}(?:, [^\n]{1,60})?)\n(?:1\. )?(?P<definition>\S[^\n]+)"
)

Form = Literal["next_passage", "next_step", "title", "definition", "docstring"]


@dataclass(frozen=True)
class Question:
    """A prompt, what separates it from its answer, and the answer as the document has it."""

    prompt: str
    separator: str
    answer: str


def next_passage(text: str, prompt_bytes: int, choice_bytes: int) -> Iterator[Question]:
    """A passage, and what follows; then on from there."""
    while parts := split_passage(text, prompt_bytes):
        passage, separator, text = parts
        answer = cut_words(text, choice_bytes)
        yield Question(passage, separator, answer)
        text = text[len(answer) :].lstrip()


def next_step(text: str, prompt_bytes: int, choice_bytes: int) -> Iterator[Question]:
    """What a numbered procedure is for and its steps so far, and the next step (from the second one on).

    The prompt keeps the document's first line and, of the rest, whole lines from the end.
    """
    steps = list(_STEP.finditer(text))
    title = text.split("\n", 1)[0]
    for number, step in enumerate(steps, 1):
        if int(step.group(1)) != number:
            return
        if number == 1:
            continue
        prompt = f"{number}."
        for line in reversed(text[len(title) : step.start()].strip().split("\n")):
            if len(f"{title}\n{line}\n{prompt}".encode()) > prompt_bytes:
                break
            prompt = f"{line}\n{prompt}"
        yield Question(f"{title}\n{prompt}", " ", cut_words(step.group(2), choice_bytes))


def title(text: str, prompt_bytes: int, choice_bytes: int) -> Iterator[Question]:
    """A document's title (a short first line over a blank one), and how it begins."""
    match = _TITLE.match(text)
    if match and len(match["title"].encode()) <= prompt_bytes:
        yield Question(match["title"].strip(), "\n\n", cut_words(text[match.end() :].strip(), choice_bytes))


def definition(text: str, prompt_bytes: int, choice_bytes: int) -> Iterator[Question]:
    """A dictionary's headword, and the first thing it says about it."""
    for match in _ENTRY.finditer(text):
        if len(match["word"].encode()) <= prompt_bytes:
            yield Question(match["word"].strip(), "\n", cut_words(match["definition"], choice_bytes))


def docstring(text: str, prompt_bytes: int, choice_bytes: int) -> Iterator[Question]:
    """A function's signature, and the first line of its documentation; in code or in a manual."""
    for match in _FUNCTION.finditer(text):
        prompt = f'{match["signature"]}\n    """'
        if len(prompt.encode()) <= prompt_bytes:
            yield Question(prompt, "", cut_words(match["summary"], choice_bytes))
    for match in _REFERENCE.finditer(text):
        if len(match["signature"].encode()) <= prompt_bytes:
            yield Question(match["signature"], "\n\n", cut_words(match["summary"], choice_bytes))


FORMS: dict[Form, Callable[[str, int, int], Iterator[Question]]] = {
    "next_passage": next_passage,
    "next_step": next_step,
    "title": title,
    "definition": definition,
    "docstring": docstring,
}


def choice_items(
    form: Form,
    documents: list[Document],
    *,
    choices: int,
    prompt_bytes: int,
    choice_bytes: int,
    count: int,
    rng: np.random.Generator,
) -> list[Item]:
    """Up to `count` items, in turn from each domain, and within it from each document.

    Wrong choices are right answers of other questions of the same domain (of other documents, if there
    are enough), put behind the same separator, so that neither topic nor layout gives the answer away.
    """
    by_domain: dict[str, list[Document]] = {}
    for document in documents:
        by_domain.setdefault(document.domain, []).append(document)
    groups = [
        _domain_items(form, by_domain[domain], choices, prompt_bytes, choice_bytes, count, rng)
        for domain in sorted(by_domain)
    ]
    return list(islice(in_turn(groups), count))


def _domain_items(
    form: Form,
    documents: list[Document],
    choices: int,
    prompt_bytes: int,
    choice_bytes: int,
    count: int,
    rng: np.random.Generator,
) -> list[Item]:
    per_document = (
        [
            (document.unit_id, question)
            for question in FORMS[form](document.text, prompt_bytes, choice_bytes)
            if question.prompt.strip() and len(question.answer.encode()) >= SHORTEST_ANSWER
        ]
        for document in documents
    )
    asked = list(in_turn(per_document))
    items = []
    for unit_id, question in asked[:count]:
        others = {other.answer for owner, other in asked if owner != unit_id}
        if len(others - {question.answer}) < choices - 1:
            others = {other.answer for _, other in asked}
        wrong = sorted(others - {question.answer})
        if len(wrong) < choices - 1:
            return []
        offered = [wrong[index] for index in rng.choice(len(wrong), choices - 1, replace=False)]
        right = int(rng.integers(choices))
        offered.insert(right, question.answer)
        texts = tuple(question.separator + text for text in offered)
        items.append(Item(question.prompt, texts, right, unit_id))
    return items


def retrieval_items(vocabulary: list[str], pairs: int, count: int, rng: np.random.Generator) -> list[Item]:
    """Lines ``key: value`` of distinct random words, then one of the keys; every value is a choice."""
    items = []
    for _ in range(count):
        words = [vocabulary[index] for index in rng.choice(len(vocabulary), 2 * pairs, replace=False)]
        keys, values = words[:pairs], words[pairs:]
        asked = int(rng.integers(pairs))
        lines = "\n".join(f"{key}: {value}" for key, value in zip(keys, values, strict=True))
        items.append(Item(f"{lines}\n{keys[asked]}:", tuple(f" {value}" for value in values), asked, None))
    return items
