"""What a task's items are like: question and right answer as one text, for selecting towards the task."""

from typing import TYPE_CHECKING, Any

from airlab.errors import UserError
from airlab.evaluation.tasks.build import build_tasks
from airlab.evaluation.tasks.items import Document
from airlab.schema.evaluation import LocalTask, TaskSpec

if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks import TaskManager

_SEED = 1
"""Evaluation draws its items with 0: what is made up of random words must not be made up alike."""


def task_texts(documents: list[Document], task: LocalTask, name: str) -> list[str]:
    """Texts of one of the tasks that `task` plans, made of these documents.

    Raises:
        UserError: the documents have no such items.
    """
    try:
        built = build_tasks(documents, TaskSpec(tasks=(task,), minimum_items=1), _SEED)
    except UserError as error:
        raise UserError(
            f"the corpus' own documents cannot stand for held-out ones, to select towards {name}: {error}"
        ) from None
    items = next(one.items for one in built if one.name == name)
    return [item.prompt + item.choices[item.answer] for item in items]


def benchmark_texts(benchmark: str, manager: "TaskManager") -> tuple[list[str], dict[str, int]]:
    """Texts of the items that a benchmark of the harness has besides those it evaluates.

    Those are its training split, or without one its validation split where it evaluates another. An item
    that is evaluated as well, word for word, is left out. Called in the worker process only.

    Returns:
        The texts, and how many were left out.

    Raises:
        UserError: there is no such benchmark, or it has no other items.
    """
    if benchmark not in manager.all_tasks:
        raise UserError(f"the harness has no benchmark {benchmark!r} to select towards.")
    texts: list[str] = []
    left_out = 0
    for name, task in sorted(manager.load(benchmark)["tasks"].items()):
        if task.has_training_docs():
            documents = task.training_docs()
        elif task.has_test_docs() and task.has_validation_docs():
            documents = task.validation_docs()
        else:
            raise UserError(
                f"benchmark {name} has no items besides those that are evaluated, so nothing can be selected "
                "towards it; take another."
            )
        evaluated = {_text(task, document) for document in task.eval_docs}
        found = [_text(task, document) for document in documents]
        texts += (kept := [text for text in found if text not in evaluated])
        left_out += len(found) - len(kept)
    if not texts:
        raise UserError(
            f"benchmark {benchmark} evaluates all its items, so nothing can be selected towards it."
        )
    return texts, {"left_out": left_out}


def _text(task: "ConfigurableTask", document: dict[str, object]) -> str:
    """As the harness writes an example with its answer."""
    question, answer = task.doc_to_text(document), task.doc_to_target(document)
    choices: Any = task.doc_to_choice(document) if task.config.doc_to_choice else None
    if task.multiple_input:  # the choices are the questions, and the right one's number is its text
        question, choices = choices[question], None
    turn = task.build_qa_turn(
        q=question, c=choices, a=answer, tgt_delim=task.config.target_delimiter, few_delim=""
    )
    return "".join(message.to_text() for message in turn)
