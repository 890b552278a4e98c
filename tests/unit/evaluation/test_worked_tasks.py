"""Tasks of held-out worked problems: which are asked, and how they are written down."""

import json
from collections import Counter
from pathlib import Path

import pytest

from airlab.errors import UserError
from airlab.evaluation.tasks.files import read_rendering, read_tasks
from airlab.evaluation.tasks.items import BuiltTask
from airlab.evaluation.tasks.worked import build_worked_tasks
from airlab.schema.evaluation import METRICS, WorkedTaskSpec
from airlab.schema.machine import Machine
from airlab.schema.traces import Rendering
from airlab.stages.build_worked_tasks import BuildWorkedTasks
from airlab.store.plan import Plan
from airlab.store.store import Store
from tests.unit.evaluation.made_worked import LEVELS, MadeProblems, corpus, generators, spec, tasks_folder

COLUMNS = (*LEVELS, "harder", "unseen")


def built(asked: WorkedTaskSpec | None = None, seed: int = 0) -> dict[str, BuiltTask]:
    tasks = build_worked_tasks(corpus(), generators(), asked or spec(), seed)
    return {task.name: task for task in tasks}


def split_of(prompt: str) -> str:
    """The split and the level that a problem is of."""
    (found,) = (
        t.unit_id.rpartition("-")[0] for some in corpus().values() for t in some if t.prompt == prompt
    )
    return found


def test_the_tasks_are_those_that_were_planned() -> None:
    tasks, planned = built(), spec().planned()
    assert [(task.name, task.metrics) for task in tasks.values()] == [(p.name, p.metrics) for p in planned]
    assert [p.name for p in planned] == [f"{a}_{c}" for a in ("solved", "worked", "final") for c in COLUMNS]
    assert {metric for p in planned for metric in p.metrics} <= set(METRICS)
    assert {len(task.items) for name, task in tasks.items() if name.startswith("solved")} == {4}
    assert {len(task.items) for name, task in tasks.items() if not name.startswith("solved")} == {5}


def test_each_column_asks_problems_of_its_own_split_and_level_evenly() -> None:
    for column in COLUMNS:
        items = built()[f"solved_{column}"].items
        origins = Counter(split_of(item.prompt) for item in items)
        if column in LEVELS:
            assert origins == {f"{column}-heldout": 4}
        else:
            assert origins == {f"{level}-{column}": 2 for level in LEVELS}
        of_a_generator = Counter(item.cluster for item in items)
        assert max(of_a_generator.values()) == (2 if column in LEVELS else 1)


def test_solutions_and_answers_are_of_the_problems_that_are_solved() -> None:
    tasks = built()
    of = {trace.prompt: trace for some in corpus().values() for trace in some}
    for column in COLUMNS:
        solved, worked, final = (tasks[f"{asked}_{column}"].items for asked in ("solved", "worked", "final"))
        assert [i.prompt for i in solved] == [i.prompt for i in worked][:4] == [i.prompt for i in final][:4]
        for one in solved:
            assert one.choices == (of[one.prompt].answer,) and one.given == ""
        for whole, last in zip(worked, final, strict=True):
            response = of[whole.prompt].response
            assert whole.given + whole.choices[0] == response == last.given + last.choices[0]
            assert last.choices[0] == f" {of[last.prompt].answer}" and last.cluster == whole.cluster


def test_the_seed_chooses_among_the_problems_and_nothing_else_does() -> None:
    def asked(seed: int) -> set[str]:
        return {item.prompt for item in built(seed=seed)["solved_unseen"].items}

    assert asked(0) == asked(0) and len({frozenset(asked(seed)) for seed in range(5)}) > 1
    backwards = {split: traces[::-1] for split, traces in corpus().items()}
    tasks = build_worked_tasks(backwards, generators(), spec(), 0)
    assert {task.name: task for task in tasks} == built()


def test_columns_may_be_left_out() -> None:
    tasks = built(spec(levels=("school",), harder=False))
    assert list(tasks) == [f"{a}_{c}" for a in ("solved", "worked", "final") for c in ("school", "unseen")]
    assert {split_of(item.prompt) for item in tasks["solved_unseen"].items} == {"school-unseen"}


@pytest.mark.parametrize("levels", [("nowhere", "school"), ("school",)])
def test_a_column_without_enough_problems_is_refused(levels: tuple[str, ...]) -> None:
    asked = spec(
        levels=levels, minimum_items=9 if levels == ("school",) else 3, solved_items=9, likelihood_items=9
    )
    with pytest.raises(UserError, match=f"problems for the column {levels[0]} .* needs at least"):
        built(asked)


@pytest.mark.parametrize(
    "wrong",
    [
        {"levels": ("school", "school")},
        {"levels": ("harder",)},
        {"minimum_items": 5},
        {"levels": ()},
    ],
)
def test_a_specification_that_contradicts_itself_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"levels must differ|minimum_items|at least 1"):
        spec(**wrong)


def test_plain_texts_are_put_together_and_chats_are_left_to_the_template(tmp_path: Path) -> None:
    plain = Rendering(template="plain", separator=" =>\n")
    for name, asked in (("plain", spec(rendering=plain)), ("chat", spec())):
        folder = tasks_folder(tmp_path / name, asked)
        assert read_rendering(folder) == asked.rendering
        lines = (folder / "final_school.jsonl").read_text().splitlines()
        for row, item in zip(map(json.loads, lines), built()["final_school"].items, strict=True):
            shown = (item.prompt, item.given) if name == "chat" else (f"{item.prompt} =>\n{item.given}", "")
            assert (row["prompt"], row["given"], row["text"], row["cluster"]) == (
                *shown, item.choices[0], item.cluster,
            )  # fmt: skip


def test_the_stage_writes_the_folder_and_says_what_is_in_it(tmp_path: Path) -> None:
    stage, store = BuildWorkedTasks(MadeProblems(), spec(), seed=0), Store(tmp_path / "store")
    Plan(store, [stage]).run(Machine())
    listed = read_tasks(store.folder(stage) / "tasks")
    assert [task.name for task in listed] == [task.name for task in spec().planned()]
    record = store.record(stage)
    assert record is not None and [task["name"] for task in record.notes["tasks"]] == [t.name for t in listed]
