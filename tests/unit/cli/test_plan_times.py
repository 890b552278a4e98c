"""`airlab plan` says how long stages take where something was measured, and what that was; else nothing."""

import json
import re
import shutil
from pathlib import Path

import pytest

from airlab.cli.experiment import open_published
from airlab.progress import duration
from airlab.schema.machine import Machine
from airlab.stages.evaluate import Evaluate
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store
from tests.unit.cli.conftest import Airlab

MAIN = "attention_influence/main"
RESULTS = Path(__file__).parents[3] / "results"


@pytest.fixture
def lock(airlab: Airlab) -> Path:
    """The committed one, copied to where the command looks for it."""
    folder = Path("results") / MAIN / "laptop"
    folder.mkdir(parents=True)
    return Path(shutil.copy(RESULTS / MAIN / "laptop" / "lock.json", folder))


def edited(lock: Path, **changes: object) -> None:
    lock.write_text(json.dumps(json.loads(lock.read_text()) | changes))


def told(airlab: Airlab, *arguments: str) -> list[str]:
    """The lines after the table, but the last, which counts stages."""
    answer = airlab("plan", *arguments)
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[-1].startswith("106 stages, ")
    return lines[max(i for i, line in enumerate(lines) if line.startswith("└")) + 1 : -1]


def test_a_published_plan_takes_as_long_as_its_lock_says(airlab: Airlab, lock: Path) -> None:
    seconds = json.loads(lock.read_text())["wall_s"]
    first, second = told(airlab, "scale=laptop")
    assert first.startswith(f"expected: {duration(sum(seconds.values()))} (")
    for kind in ("pretrain", "measure_losses", "evaluate"):
        assert f"{kind} {duration(seconds[kind])}" in first
    assert "score_units" not in first, "what takes no second is not named"
    assert second == f"as in {lock}, on 2 cores of AMD EPYC"


def test_twice_the_work_takes_twice_as_long(airlab: Airlab, lock: Path) -> None:
    seconds = json.loads(lock.read_text())["wall_s"]["pretrain"]
    _, bound = open_published(MAIN, "laptop")
    first, _ = told(airlab, "scale=laptop", f"training.budget_tokens={2 * bound.training.budget_tokens}")
    assert f"pretrain {duration(2 * seconds)}" in first


def test_what_was_never_measured_is_unknown(airlab: Airlab, lock: Path) -> None:
    answer = airlab("plan", "scale=smoke")
    assert "How long this takes is unknown: nothing of it was measured here" in answer.out
    assert re.search(r"│ pretrain .* unknown │", answer.out)


def test_a_kind_that_the_lock_does_not_know_is_named(airlab: Airlab, lock: Path) -> None:
    seconds = json.loads(lock.read_text())["wall_s"]
    del seconds["evaluate"]
    edited(lock, wall_s=seconds)
    assert told(airlab, "scale=laptop")[0].endswith(", and what nothing was measured of: evaluate (21)")


EPYC = {"cpu": "AMD EPYC", "cores": 2, "gpus": [], "torch": "2"}
GPU = {"cpu": "Xeon", "cores": 16, "gpus": ["NVIDIA H100"], "torch": "2"}


@pytest.mark.parametrize(
    "machines",
    [[EPYC | {"stages": 100}], [EPYC | {"stages": 104}, GPU | {"stages": 2}]],
    ids=["with stages missing", "partly on a GPU"],
)
def test_a_lock_that_says_something_else_is_not_used(
    airlab: Airlab, lock: Path, machines: list[dict[str, object]]
) -> None:
    edited(lock, machines=machines)
    assert told(airlab, "scale=laptop") == [
        "How long this takes is unknown: nothing of it was measured here, and no lock in results/ times it "
        "on a machine of this kind alone."
    ]


def test_a_gpu_is_not_planned_with_what_a_cpu_took(airlab: Airlab, lock: Path) -> None:
    assert told(airlab, "scale=laptop", "machine=gpu1")[-1].startswith("How long this takes is unknown")


def test_what_finished_here_comes_first(
    airlab: Airlab, lock: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    facts = {"cpu": "RISC", "cores": 5, "gpus": []}
    monkeypatch.setattr("airlab.store.record.provenance", lambda: facts)
    monkeypatch.setattr(Workdir, "wall_s", 100.0)

    def run(self: Stage, work: Workdir, machine: Machine) -> None:
        work.path("line").write_text("made")

    module, bound = open_published(MAIN, "laptop")
    store = Store(tmp_path / "store")
    cells = [stage for stage in module.targets(bound).values() if isinstance(stage, Evaluate)]
    for stage in Plan(store, cells[:1]).order:
        monkeypatch.setattr(type(stage), "run", run)
        store.make(stage, Machine())
    first, here, locked = told(airlab, "scale=laptop")
    # Twenty cells are left, and the lock says 44 and 12 seconds for their training and evaluation.
    assert "build_mixture 33 min 20 s, pretrain 33 min 20 s, evaluate 33 min 20 s" in first
    assert here == (
        "as finished stages of this plan took, on 5 cores of RISC: build_mixture, pretrain, evaluate"
    )
    assert locked.startswith(f"as in {lock}, on 2 cores of AMD EPYC: ") and "pretrain" not in locked
