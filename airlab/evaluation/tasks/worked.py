"""Questions with worked and final answers, from the held-out parts of a corpus of worked problems.

A model's own solution is judged by `airlab.text.worked.answers.is_right`; how likely it finds the given one
is the low-noise measure beside it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from airlab.errors import UserError
from airlab.evaluation.tasks.items import Item
from airlab.evaluation.tasks.turns import in_turn
from airlab.text.traces import Trace
from airlab.text.worked.answers import MARK


@dataclass(frozen=True)
class WorkedItem:
    """A problem to be solved in free text."""

    unit_id: str
    prompt: str
    """The question, as in the pool's traces."""
    worked: str
    """A checked solution, one step a line; the last line is the mark and the answer."""
    answer: str
    level: str
    task: str
    """The generator: problems of one are not independent of each other."""


def worked_items(
    traces: Iterable[Trace], tasks: Mapping[str, str], count: int
) -> dict[str, list[WorkedItem]]:
    """Up to `count` items of each level, in turn from each generator.

    Args:
        traces: clean ones, such as those of ``heldout.parquet``, ``harder.parquet`` or ``unseen.parquet``.
        tasks: each trace's generator, from ``problems.parquet``.

    Raises:
        UserError: a trace without a final answer or a known generator, or whose solution is not clean.
    """
    levels: dict[str, dict[str, list[WorkedItem]]] = {}
    for trace in traces:
        if trace.answer is None or trace.unit_id not in tasks:
            raise UserError(
                f"the trace {trace.unit_id} has no final answer or generator: it cannot be a task."
            )
        if set(trace.step_kinds or ()) != {"clean", "answer"}:
            raise UserError(
                f"the trace {trace.unit_id} is not a clean solution: take held-out traces for tasks."
            )
        task = tasks[trace.unit_id]
        item = WorkedItem(trace.unit_id, trace.prompt, trace.response, trace.answer, trace.domain, task)
        levels.setdefault(trace.domain, {}).setdefault(task, []).append(item)
    return {level: list(islice(in_turn(groups.values()), count)) for level, groups in sorted(levels.items())}


def likelihood_items(items: list[WorkedItem]) -> tuple[list[Item], list[Item]]:
    """(whole solution given the question, final answer given question and steps), same problems in both.

    The prompt ends where the continuation begins; how a chat puts them is up to its template.
    """
    worked, final = [], []
    for item in items:
        steps, _, _ = item.worked.rpartition(MARK)
        worked.append(Item(item.prompt, (f"\n{item.worked}",), 0, item.task))
        final.append(Item(f"{item.prompt}\n{steps}{MARK}", (f" {item.answer}",), 0, item.task))
    return worked, final
