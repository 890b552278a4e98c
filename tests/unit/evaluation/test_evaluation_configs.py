import json
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from airlab.errors import UserError
from airlab.evaluation.hub import require_hub
from airlab.schema.evaluation import EvaluationSpec, HarnessSpec, TaskSpec

CONFIGS = Path(__file__).parents[3] / "configs" / "evaluation"


def bind(name: str) -> TaskSpec | HarnessSpec:
    loaded = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    return TypeAdapter(EvaluationSpec).validate_json(json.dumps(loaded))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_evaluation_binds(path: Path) -> None:
    assert bind(path.stem).planned()


def test_a_mistyped_key_is_refused() -> None:
    with pytest.raises(ValueError, match="itmes"):
        TypeAdapter(EvaluationSpec).validate_json(
            '{"kind": "local", "tasks": [{"kind": "copying", "itmes": 3}]}'
        )


def test_paper_has_its_nineteen_benchmarks_under_names_the_harness_knows() -> None:
    from lm_eval.tasks import TaskManager

    spec = bind("paper")
    assert isinstance(spec, HarnessSpec) and len(spec.tasks) == 19
    known = set(TaskManager().all_tasks)
    assert [task.harness_name for task in spec.tasks if task.harness_name not in known] == []
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
