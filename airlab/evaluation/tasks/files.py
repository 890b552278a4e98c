"""A tasks folder: one lm-eval YAML and one JSONL a task, and ``tasks.json`` that lists them.

Paths in the YAML are relative to the folder, so it can be moved; the harness is run from inside it.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from airlab.evaluation.tasks.items import BuiltTask, Item
from airlab.schema.traces import Rendering

FORMAT = 1
"""Part of every task's version: raised when the meaning of a task's items changes."""

_OUTPUT_TYPES = {
    "rolling": "loglikelihood_rolling",
    "likelihood": "loglikelihood",
    "choice": "multiple_choice",
    "solution": "generate_until",
    "continuation": "loglikelihood",
}
_ASKED: dict[str, dict[str, object]] = {
    "rolling": {
        "doc_to_text": "",
        "doc_to_target": "text",
        "metric_list": [{"metric": "bits_per_byte"}],
    },
    "likelihood": {
        "doc_to_text": "prompt",
        "doc_to_target": "text",
        "metric_list": [{"metric": "acc"}],
    },
    "choice": {
        "doc_to_text": "prompt",
        "doc_to_target": "answer",
        "doc_to_choice": "choices",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    # Judged in `airlab.evaluation.harness`: the harness has no metric that compares answers as numbers.
    "solution": {
        "doc_to_text": "prompt",
        "doc_to_target": "text",
        "metric_list": [{"metric": "bypass"}],
    },
    "continuation": {
        "doc_to_text": "prompt",
        "gen_prefix": "given",
        "doc_to_target": "text",
        "metric_list": [{"metric": "acc"}],
    },
}

_OF_TURNS = ("solution", "continuation")


@dataclass(frozen=True)
class ListedTask:
    """A line of ``tasks.json``."""

    name: str
    form: str
    metrics: tuple[str, ...]
    n_items: int
    chance: float | None
    version: str
    """Format number and a hash of the items: two results are comparable when this agrees."""


@dataclass(frozen=True)
class Turns:
    """How tasks are shown that are turns of a conversation, and how long what is written may get."""

    rendering: Rendering
    max_new_tokens: int


def write_tasks(folder: Path, tasks: list[BuiltTask], turns: Turns | None = None) -> list[ListedTask]:
    """Write the folder; returns what ``tasks.json`` lists.

    `turns` is needed for solutions and continuations. Plain texts are put together here; into a chat template
    each checkpoint puts them itself.
    """
    listed = []
    for task in tasks:
        lines = "".join(
            json.dumps(_row(task, index, item, turns), ensure_ascii=False) + "\n"
            for index, item in enumerate(task.items)
        )
        (folder / f"{task.name}.jsonl").write_text(lines, encoding="utf-8", newline="\n")
        version = f"{FORMAT}.{hashlib.sha256(lines.encode()).hexdigest()[:12]}"
        # JSON is YAML; it needs no quoting rules of our own.
        config = {
            "task": task.name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": f"{task.name}.jsonl"}},
            "test_split": "test",
            "output_type": _OUTPUT_TYPES[task.form],
            "target_delimiter": "",
            "num_fewshot": 0,
            **_ASKED[task.form],
            **_generation(task, turns),
            "metadata": {"version": version},
        }
        (folder / f"{task.name}.yaml").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        listed.append(ListedTask(task.name, task.form, task.metrics, len(task.items), task.chance, version))
    rows: dict[str, object] = {"tasks": [asdict(task) for task in listed]}
    if turns is not None:
        rows["rendering"] = turns.rendering.model_dump()
    (folder / "tasks.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return listed


def _row(task: BuiltTask, index: int, item: Item, turns: Turns | None) -> dict[str, str | int | list[str]]:
    row: dict[str, str | int | list[str]] = {"id": index, "cluster": item.cluster or ""}
    if task.form in _OF_TURNS:
        return row | _turn(item, turns) | {"text": item.choices[0]}
    if task.form != "rolling":
        row["prompt"] = item.prompt
    if task.form == "choice":
        return row | {"choices": list(item.choices), "answer": item.answer}
    return row | {"text": item.choices[0]}


def _turn(item: Item, turns: Turns | None) -> dict[str, str]:
    assert turns is not None
    if turns.rendering.template == "chat":
        return {"prompt": item.prompt, "given": item.given}
    return {"prompt": f"{item.prompt}{turns.rendering.separator}{item.given}", "given": ""}


def _generation(task: BuiltTask, turns: Turns | None) -> dict[str, object]:
    if task.form != "solution":
        return {}
    assert turns is not None
    return {"generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": turns.max_new_tokens}}


def read_tasks(folder: Path) -> list[ListedTask]:
    """What a tasks folder lists."""
    rows = _listing(folder)["tasks"]
    return [ListedTask(**{**row, "metrics": tuple(row["metrics"])}) for row in rows]


def read_rendering(folder: Path) -> Rendering | None:
    """How a tasks folder's turns are shown; None where its tasks are texts."""
    told = _listing(folder).get("rendering")
    return None if told is None else Rendering(**told)


def _listing(folder: Path) -> dict[str, Any]:
    listing: dict[str, Any] = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
    return listing
