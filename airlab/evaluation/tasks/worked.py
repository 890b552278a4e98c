"""Tasks out of the held-out parts of a corpus of worked problems, asked as turns of a conversation.

A model's own solution is judged by `airlab.text.worked.answers.is_right`; how likely it finds the given one
is the low-noise measure beside it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from airlab.errors import UserError
from airlab.evaluation.tasks.items import BuiltTask, Item
from airlab.evaluation.tasks.turns import in_turn
from airlab.randomness import generator
from airlab.schema.evaluation import WORKED_METRICS, WorkedTaskSpec
from airlab.schema.worked_problems import Split
from airlab.text.traces import Trace
from airlab.text.worked.answers import MARK


@dataclass(frozen=True)
class WorkedItem:
    """A problem to be solved in free text."""

    prompt: str
    """The question, as in the pool's traces."""
    worked: str
    """A checked solution; its last line is the mark and the answer."""
    answer: str
    task: str
    """The generator: problems of one are not independent of each other."""


def build_worked_tasks(
    traces: Mapping[Split, Sequence[Trace]], generators: Mapping[str, str], spec: WorkedTaskSpec, seed: int
) -> list[BuiltTask]:
    """The specification's tasks in its order; the same problems are solved and read.

    Args:
        traces: of `heldout`, `harder` and `unseen`.
        generators: of every trace, from ``problems.parquet``.
        seed: of which problems are asked.

    Raises:
        UserError: a column gets fewer than ``spec.minimum_items``, or see `worked_items`.
    """
    count = max(spec.solved_items, spec.likelihood_items)
    found = {
        split: worked_items(_shuffled(some, seed, split), generators, count) for split, some in traces.items()
    }
    columns = {level: found["heldout"].get(level, []) for level in spec.levels}
    for split in ("harder", "unseen"):
        if split in spec.columns():
            of_levels = [found[split].get(level, []) for level in spec.levels]
            columns[split] = list(islice(in_turn(of_levels), count))
    for column, items in columns.items():
        if len(items) < spec.minimum_items:
            raise UserError(
                f"the corpus has {len(items)} held-out problems for the column {column} of the evaluation, "
                f"which needs at least {spec.minimum_items}: hold out more (traces.heldout_per_level, "
                "harder_per_level, unseen_per_level) or leave the column out"
            )
    built = {}
    for column, items in columns.items():
        solved, read = items[: spec.solved_items], items[: spec.likelihood_items]
        worked, final = likelihood_items(read)
        asked = [Item(item.prompt, (item.answer,), 0, item.task) for item in solved]
        built[f"solved_{column}"] = BuiltTask(
            f"solved_{column}", "solution", WORKED_METRICS["solved"], tuple(asked), None
        )
        for name, some in (("worked", worked), ("final", final)):
            built[f"{name}_{column}"] = BuiltTask(
                f"{name}_{column}", "continuation", WORKED_METRICS[name], tuple(some), None
            )
    return [built[task.name] for task in spec.planned()]


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
        item = WorkedItem(trace.prompt, trace.response, trace.answer, task)
        levels.setdefault(trace.domain, {}).setdefault(task, []).append(item)
    return {level: list(islice(in_turn(groups.values()), count)) for level, groups in sorted(levels.items())}


def likelihood_items(items: list[WorkedItem]) -> tuple[list[Item], list[Item]]:
    """(whole solution given the question, final answer given question and steps), same problems in both."""
    worked, final = [], []
    for item in items:
        steps, _, _ = item.worked.rpartition(MARK)
        worked.append(Item(item.prompt, (item.worked,), 0, item.task))
        final.append(Item(item.prompt, (f" {item.answer}",), 0, item.task, given=f"{steps}{MARK}"))
    return worked, final


def _shuffled(traces: Sequence[Trace], seed: int, split: str) -> list[Trace]:
    ordered = sorted(traces, key=lambda trace: trace.unit_id)
    return [ordered[index] for index in generator(seed, "tasks", "worked", split).permutation(len(ordered))]
