"""Every task of a specification, from a corpus's held-out documents."""

import re
from collections import Counter

from airlab.errors import UserError
from airlab.evaluation.tasks.choices import choice_items, retrieval_items
from airlab.evaluation.tasks.items import BuiltTask, Document, Item
from airlab.evaluation.tasks.likelihood import copying_items, reasoning_items, text_items
from airlab.randomness import generator
from airlab.schema.evaluation import (
    BitsPerByte,
    Choices,
    Copying,
    KeyRetrieval,
    LocalTask,
    PlannedTask,
    Reasoning,
    TaskSpec,
)

VOCABULARY_SIZE = 1000
_WORD = re.compile(r"(?<![\w'])[a-z]{4,8}(?![\w'])")


def frequent_words(documents: list[Document], size: int = VOCABULARY_SIZE) -> list[str]:
    """The words (4 to 8 small letters) that stand in most documents, most frequent first, ties by spelling.

    Counted by document so that one repetitive text cannot fill the list.
    """
    counts: Counter[str] = Counter()
    for document in documents:
        counts.update(set(_WORD.findall(document.text)))
    return [word for word, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:size]]


def build_tasks(documents: list[Document], spec: TaskSpec, seed: int) -> list[BuiltTask]:
    """The specification's tasks in its order.

    Deterministic in the documents (their order does not matter), the specification and the seed.
    A document gives its next item only after every other one was asked, so items come from as many
    documents as there are. Each task draws from its own generator, so adding one never changes another.

    Raises `UserError` when a domain is not held out or a task gets fewer than ``spec.minimum_items``.
    """
    documents = sorted(documents, key=lambda document: document.unit_id)
    built = [task for local in spec.tasks for task in _build(local, documents, seed)]
    for task in built:
        if len(task.items) < spec.minimum_items:
            raise UserError(
                f"task {task.name} finds {len(task.items)} items in the held-out documents and needs at "
                f"least {spec.minimum_items}: hold out more text or take the task out of evaluation.tasks"
            )
    return built


def _build(task: LocalTask, documents: list[Document], seed: int) -> list[BuiltTask]:
    planned = task.planned()
    if isinstance(task, BitsPerByte):
        return [
            _built(
                plan,
                "rolling",
                text_items(
                    _shuffled(documents, (domain,), seed, plan.name),
                    task.min_bytes,
                    task.max_bytes,
                    task.items,
                ),
            )
            for plan, domain in zip(planned, task.domains, strict=True)
        ]
    if isinstance(task, Reasoning):
        shuffled = _shuffled(documents, (task.domain,), seed, task.kind)
        worked, final = reasoning_items(shuffled, task.max_bytes, task.items)
        return [_built(planned[0], "likelihood", worked), _built(planned[1], "likelihood", final)]
    rng = generator(seed, "tasks", task.kind)
    if isinstance(task, Choices):
        shuffled = _shuffled(documents, task.domains, seed, task.kind)
        if task.sources is not None:
            shuffled = [
                document for document in shuffled if document.source.partition("==")[0] in task.sources
            ]
        items = choice_items(
            task.kind,
            shuffled,
            choices=task.choices,
            prompt_bytes=task.prompt_bytes,
            choice_bytes=task.choice_bytes,
            count=task.items,
            rng=rng,
        )
        return [_built(planned[0], "choice", items, chance=1 / task.choices)]
    needed = 2 * task.pairs if isinstance(task, KeyRetrieval) else task.words
    vocabulary = frequent_words(documents)
    if len(vocabulary) < needed:
        raise UserError(
            f"task {task.kind} needs {needed} different words of 4 to 8 letters and the held-out documents "
            f"have {len(vocabulary)}: hold out more documents or ask for fewer"
        )
    if isinstance(task, Copying):
        return [_built(planned[0], "likelihood", copying_items(vocabulary, task.words, task.items, rng))]
    retrieval = retrieval_items(vocabulary, task.pairs, task.items, rng)
    return [_built(planned[0], "choice", retrieval, chance=1 / task.pairs)]


def _built(plan: PlannedTask, form: str, items: list[Item], chance: float | None = None) -> BuiltTask:
    distinct = tuple(dict.fromkeys(items))
    return BuiltTask(plan.name, form, plan.metrics, distinct, chance)  # type: ignore[arg-type]


def _shuffled(documents: list[Document], domains: tuple[str, ...], seed: int, name: str) -> list[Document]:
    held_out = sorted({document.domain for document in documents})
    for domain in domains:
        if domain not in held_out:
            raise UserError(
                f"task {name} wants held-out documents of the domain {domain!r}, and there are none; "
                f"the held-out domains are {', '.join(held_out) or 'none at all'}"
            )
    chosen = [document for document in documents if document.domain in domains]
    order = generator(seed, "tasks", name, "documents").permutation(len(chosen))
    return [chosen[index] for index in order]
