import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from airlab.errors import UserError
from airlab.evaluation.hub import require_hub
from airlab.schema.evaluation import (
    EvaluationSpec,
    HarnessSpec,
    HarnessTask,
    TaskSpec,
    TraceEvaluation,
    WorkedTaskSpec,
)

CONFIGS = Path(__file__).parents[3] / "configs" / "evaluation"


def bind(name: str) -> TaskSpec | HarnessSpec | WorkedTaskSpec:
    loaded = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    return TypeAdapter(EvaluationSpec | TraceEvaluation).validate_json(json.dumps(loaded))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_evaluation_binds(path: Path) -> None:
    assert bind(path.stem).planned()


def test_a_mistyped_key_is_refused() -> None:
    with pytest.raises(ValueError, match="itmes"):
        TypeAdapter(EvaluationSpec).validate_json(
            '{"kind": "local", "tasks": [{"kind": "copying", "itmes": 3}]}'
        )


@pytest.fixture(scope="module")
def index() -> dict[str, Any]:
    """What the harness has, by name; found by reading all of its files."""
    from lm_eval.tasks import TaskManager

    return TaskManager().task_index


def test_paper_has_its_nineteen_benchmarks_under_names_the_harness_knows(index: dict[str, Any]) -> None:
    spec = bind("paper")
    assert isinstance(spec, HarnessSpec) and len(spec.tasks) == 19
    assert [task.harness_name for task in spec.tasks if task.harness_name not in index] == []
    shots = {task.name: task.shots for task in spec.tasks}
    assert (shots["DROP"], shots["BBH"], shots["GSM8K"], shots["MATH"], shots["HumanEval"]) == (3, 3, 5, 4, 0)
    (human,) = (task.sampling for task in spec.tasks if task.sampling is not None)
    assert (human.samples, human.temperature, human.top_p) == (20, 0.2, 0.95)


@pytest.mark.parametrize("switch", ["HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"])
def test_paper_is_refused_where_the_hub_is_switched_off(monkeypatch, switch: str) -> None:
    for other in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(switch, "1")
    with pytest.raises(
        UserError, match=f"evaluation=paper .* {switch} switches the hub off: use evaluation=local"
    ):
        require_hub()


def test_paper_is_refused_where_the_hub_cannot_be_reached(monkeypatch) -> None:
    import huggingface_hub.constants

    for switch in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(switch, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="cannot be reached from here: use evaluation=local"):
        require_hub()


def test_traces_are_evaluated_by_worked_problems_or_by_the_harness() -> None:
    for name in ("worked", "air-paper"):
        loaded = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
        assert TypeAdapter(TraceEvaluation).validate_json(json.dumps(loaded)).planned()
    local = yaml.safe_load((CONFIGS / "smoke.yaml").read_text(encoding="utf-8"))
    with pytest.raises(ValueError, match="'worked', 'harness'"):
        TypeAdapter(TraceEvaluation).validate_json(json.dumps(local))


def test_air_paper_asks_the_harness_for_what_it_has(index: dict[str, Any]) -> None:
    """Names, metrics and answer filters, in the harness's own files; nothing is downloaded."""
    from lm_eval.tasks._yaml_loader import load_yaml

    spec = bind("air-paper")
    assert isinstance(spec, HarnessSpec)
    assert [task.name for task in spec.tasks] == ["AIME24", "AIME25", "MATH500", "GPQA-Diamond"]
    for task in spec.tasks:
        told = load_yaml(index[task.harness_name].yaml_path, resolve_func=True)
        assert told["output_type"] == "generate_until"
        assert told["metric_list"][0]["metric"] == task.metric
        assert task.filter in [one["name"] for one in told.get("filter_list", [{"name": "none"}])]
        assert (task.shots, task.chat, task.max_new_tokens, task.sampling) == (0, True, 32768, None)
        assert task.judge == ("last_boxed" if task.name == "MATH500" else "own")


def test_sampled_answers_have_the_benchmarks_own_length() -> None:
    sampling = {"samples": 2, "temperature": 0.5, "top_p": 0.9}
    given = {"name": "X", "harness_name": "x", "shots": 0, "metric": "acc"}
    assert HarnessTask.model_validate(given | {"sampling": sampling})
    with pytest.raises(ValueError, match="max_new_tokens is for greedy answers"):
        HarnessTask.model_validate(given | {"sampling": sampling, "max_new_tokens": 5})
