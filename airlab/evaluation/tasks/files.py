"""A tasks folder: one lm-eval YAML and one JSONL a task, and ``tasks.json`` that lists them.

Paths in the YAML are relative to the folder, so it can be moved; the harness is run from inside it.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from airlab.evaluation.tasks.items import BuiltTask, Item

FORMAT = 1
"""Part of every task's version: raised when the meaning of a task's items changes."""

_OUTPUT_TYPES = {
    "rolling": "loglikelihood_rolling",
    "likelihood": "loglikelihood",
    "choice": "multiple_choice",
}
_ASKED = {
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
}


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


def write_tasks(folder: Path, tasks: list[BuiltTask]) -> list[ListedTask]:
    """Write the folder; returns what ``tasks.json`` lists."""
    listed = []
    for task in tasks:
        lines = "".join(
            json.dumps(_row(task, index, item), ensure_ascii=False) + "\n"
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
            "metadata": {"version": version},
        }
        (folder / f"{task.name}.yaml").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        listed.append(ListedTask(task.name, task.form, task.metrics, len(task.items), task.chance, version))
    rows = {"tasks": [asdict(task) for task in listed]}
    (folder / "tasks.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return listed


def _row(task: BuiltTask, index: int, item: Item) -> dict[str, str | int | list[str]]:
    row: dict[str, str | int | list[str]] = {"id": index, "cluster": item.cluster or ""}
    if task.form != "rolling":
        row["prompt"] = item.prompt
    if task.form == "choice":
        return row | {"choices": list(item.choices), "answer": item.answer}
    return row | {"text": item.choices[0]}


def read_tasks(folder: Path) -> list[ListedTask]:
    """What a tasks folder lists."""
    rows = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))["tasks"]
    return [ListedTask(**{**row, "metrics": tuple(row["metrics"])}) for row in rows]
