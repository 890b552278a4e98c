"""`airlab plan` and `table` of published experiments; `airlab verify` ties tables to configurations."""

import json
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from airlab.cli import experiment as commands
from airlab.cli.experiment import open_experiment, open_published, published_targets
from airlab.cli.main import configs_folder
from airlab.cli.overrides import prepare
from airlab.errors import UserError
from airlab.reporting.audit import AUDIT
from airlab.reporting.lock import LOCK, write_lock
from airlab.schema.machine import Machine
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.store import Store
from tests.unit.cli.conftest import Airlab

NAME = "attention_influence/main"
AUDITED = "attention_influence/controls"


def test_one_job_leaves_no_folder_of_its_own(airlab: Airlab, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, Any]] = []
    monkeypatch.setattr(commands, "run", lambda config: seen.append((config["scale"], config["seeds"])))
    assert airlab("run", "scale=smoke", "seeds=[4]").code == 0
    assert seen == [("smoke", [4])]
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("name", ["controls", AUDITED])
def test_an_experiment_is_known_by_the_last_part_of_its_name(airlab: Airlab, name: str) -> None:
    answer = airlab("plan", f"experiment={name}", "scale=smoke")
    assert answer.code == 0, answer.err
    assert f"{AUDITED}, scale smoke" in answer.out


def test_an_unknown_experiment_is_told_what_exists(airlab: Airlab) -> None:
    answer = airlab("plan", "experiment=nonesuch")
    assert answer.code == 2
    assert "there is no experiment 'nonesuch'; known are " in answer.sentence
    assert AUDITED.rpartition("/")[2] in answer.sentence


def test_a_name_that_means_two_experiments_is_refused(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / "experiment" / folder).mkdir(parents=True)
        (tmp_path / "experiment" / folder / "main.yaml").touch()
    with pytest.raises(UserError, match="experiment=main may mean one/main or other/main"):
        prepare(["experiment=main"], tmp_path)
    assert prepare(["experiment=one"], tmp_path) == prepare(["experiment=one/main"], tmp_path)
    assert prepare(["experiment=one/main"], tmp_path) == ["experiment=one/main"]
    assert prepare(["-m", "experiment=one/main,other/main"], tmp_path)[1] == "experiment=one/main,other/main"


def test_a_plan_says_what_would_run_and_runs_nothing(airlab: Airlab, tmp_path: Path) -> None:
    answer = airlab("plan", "scale=smoke")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[-1].endswith("to run, 0 not")
    assert "measure_losses" in answer.out and "pretrain" in answer.out
    assert not (tmp_path / "store").exists()


def test_only_the_cells_that_are_asked_for_are_planned_and_made(
    airlab: Airlab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        Plan, "run", lambda plan, _machine: made.append(tuple(s.slug() for s in plan.targets))
    )
    whole = airlab("plan", "scale=smoke", "seeds=[0,1]")
    some = airlab("plan", "scale=smoke", "seeds=[0,1]", "only=[random/*,full_pool/seed-1]")
    assert (whole.out.count("│ evaluate "), some.out.count("│ evaluate ")) == (14, 3)
    answer = airlab("run", "scale=smoke", "seeds=[0,1]", "only=[random/*,full_pool/seed-1]", "results=here")
    assert answer.code == 0, answer.err
    assert made == [("seed1", "seed0", "seed1")]
    assert answer.out.startswith("0 of 14 are there; ")
    assert not Path("here").exists()


def test_commands_that_share_an_experiment_make_every_cell_once(
    airlab: Airlab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    store = Store(tmp_path / "store")
    targets = open_published(NAME, "smoke")[0].targets(open_published(NAME, "smoke")[1])

    def pretend(plan: Plan, _machine: Machine) -> None:
        (cell,) = plan.targets
        made.append(fingerprint(cell))
        if len(made) == 1:  # another of these commands begins while this one works
            assert airlab("run", "scale=smoke", "share=true", "results=here").code == 0
        monkeypatch.setattr(Store, "find", lambda _, stage: fingerprint(stage) in made or None)

    monkeypatch.setattr(Plan, "run", pretend)
    with store.claim(targets["random/seed-0"]) as mine:  # and a third one works on this cell
        assert mine
        answer = airlab("run", "scale=smoke", "share=true", "results=here")
    assert answer.code == 0, answer.err
    assert sorted(made) == sorted(fingerprint(s) for n, s in targets.items() if n != "random/seed-0")
    told = f"{len(targets) - 1} of {len(targets)} are there; the same command without share makes the others"
    assert answer.out.startswith(told)
    assert not Path("here").exists()


def test_a_pattern_that_names_no_cell_is_refused_before_anything_runs(airlab: Airlab) -> None:
    for verb in ("plan", "run"):
        answer = airlab(verb, "scale=smoke", "only=[random/*,rndom/*]")
        assert answer.code == 2
        assert "only=rndom/* names nothing that attention_influence/main makes" in answer.sentence
        assert "it makes full_pool/seed-0, random/seed-0" in answer.sentence


def test_a_table_of_only_some_cells_is_refused(airlab: Airlab) -> None:
    for setting in ("only=[random/*]", "share=true"):
        answer = airlab("table", "scale=smoke", setting)
        assert answer.code == 2 and "and share say what is made, and a table has all" in answer.sentence


@pytest.mark.parametrize("name", [NAME, AUDITED])
def test_a_table_of_nothing_says_what_is_missing(airlab: Airlab, name: str) -> None:
    answer = airlab("table", f"experiment={name}", "scale=smoke")
    assert answer.code == 2
    assert "the table is not complete" in answer.sentence and "airlab run" in answer.sentence
    assert list(Path().iterdir()) == []


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A committed table's folder, as far as `verify` looks at it."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        module, bound, _ = open_experiment(compose("run", [f"experiment={NAME}", "scale=smoke"]))
    folder = tmp_path / "results" / NAME / "smoke"
    folder.mkdir(parents=True)
    write_lock(
        folder, {c.name: fingerprint(c.evaluation) for c in module.cells(bound)}, {}, [], {}, ["table"]
    )
    return tmp_path / "results"


def test_a_lock_made_from_the_configuration_verifies(airlab: Airlab, results: Path) -> None:
    answer = airlab("verify", f"results={results}")
    assert answer.code == 0, answer.err
    assert answer.out == f"{NAME} at scale smoke: current\n"


@pytest.mark.parametrize("change", ["a digit", "a cell less", "a cell more"])
def test_an_edited_lock_does_not(airlab: Airlab, results: Path, change: str) -> None:
    path = results / NAME / "smoke" / LOCK
    lock = json.loads(path.read_text())
    cell = "random/seed-0"
    if change == "a digit":
        digest = lock["cells"][cell]
        lock["cells"][cell] = ("1" if digest[0] == "0" else "0") + digest[1:]
    elif change == "a cell less":
        del lock["cells"][cell]
    else:
        cell = "other/seed-0"
        lock["cells"][cell] = "0" * 64
    path.write_text(json.dumps(lock))
    answer = airlab("verify", f"results={results}")
    assert answer.code == 2
    assert answer.out == f"{NAME} at scale smoke: out of date in 1 cells, first {cell}\n"
    assert answer.sentence.startswith("airlab verify: 1 of 1 tables no longer follow")


def test_a_lock_at_a_place_that_names_no_experiment(airlab: Airlab, results: Path) -> None:
    (results / NAME / "smoke").rename(results / NAME / "galaxy")
    answer = airlab("verify", f"results={results}")
    assert answer.code == 2 and "there is no scale 'galaxy'" in answer.sentence


def test_an_audit_is_verified_and_shown_like_the_table(airlab: Airlab, tmp_path: Path) -> None:
    folder = tmp_path / "results" / AUDITED / "smoke"
    folder.mkdir(parents=True)
    (folder / "table.md").write_text("# the table\n")
    targets = published_targets(AUDITED, "smoke")
    write_lock(folder, targets, {}, [], {}, ["table", "audit"])
    answer = airlab("verify", f"results={tmp_path / 'results'}")
    assert (answer.code, answer.out) == (0, f"{AUDITED} at scale smoke: current\n")
    unaudited = airlab("report", f"results={tmp_path / 'results'}")
    assert unaudited.code == 2 and "audit.md" in unaudited.sentence
    (folder / "audit.md").write_text("# the audit\n")
    shown = airlab("report", f"results={tmp_path / 'results'}")
    assert shown.code == 0 and shown.out.index("the table") < shown.out.index("the audit")
    write_lock(folder, targets | {AUDIT: "0" * 64}, {}, [], {}, ["table", "audit"])
    answer = airlab("verify", f"results={tmp_path / 'results'}")
    assert answer.code == 2
    assert answer.out == f"{AUDITED} at scale smoke: out of date in 1 cells, first audit\n"


@pytest.mark.parametrize("content", ["{", "[]", '{"cells": {}}', '{"cells": {}, "wall_s": {}, "colour": 1}'])
@pytest.mark.parametrize("verb", ["verify", "report"])
def test_a_damaged_lock(airlab: Airlab, results: Path, verb: str, content: str) -> None:
    (results / NAME / "smoke" / LOCK).write_text(content)
    answer = airlab(verb, f"results={results}")
    assert answer.code == 2 and "lock.json" in answer.sentence


@pytest.mark.parametrize("verb", ["verify", "report"])
def test_no_tables_at_all(airlab: Airlab, verb: str) -> None:
    answer = airlab(verb, "results=nowhere")
    assert answer.code == 2 and "nowhere" in answer.sentence


def test_a_lock_without_its_table(airlab: Airlab, results: Path) -> None:
    answer = airlab("report", f"results={results}")
    assert answer.code == 2 and "table.md" in answer.sentence


@pytest.mark.parametrize(
    "verb",
    ["heads", "score", "select", "weigh", "plan", "run", "table", "archive", "restore", "verify", "report"],
)
def test_every_command_explains_itself(airlab: Airlab, verb: str) -> None:
    answer = airlab(verb, "--help")
    assert answer.code == 0 and answer.err == ""
    for followed in ("own_size", "own_tasks", "own_traces"):
        assert followed not in answer.out, "a group that is never chosen"
    assert answer.out.startswith(f"airlab {verb}: ") and f"example: airlab {verb}" in answer.out
    usage = airlab()
    assert usage.code == 0 and f"  {verb} " in usage.out
