"""Job scripts for Slurm: read as Slurm reads them, and run by a shell with a command that only tells."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from airlab.cli import slurm
from airlab.cli.experiment import open_experiment, target_fingerprints
from airlab.cli.main import configs_folder
from airlab.errors import UserError
from airlab.schema.machine import Machine, Slurm
from tests.unit.cli.conftest import Airlab

MACHINE = Machine(device="cuda", processes=8, deepspeed_stage=3, slurm=Slurm(hours=1.5, partition="big"))


@pytest.fixture(autouse=True)
def submitit() -> None:
    pytest.importorskip("submitit")


def directives(script: str) -> dict[str, str]:
    """What Slurm reads: the comment lines at the top, up to the first command."""
    lines = [line for line in script.splitlines() if line.startswith("#SBATCH ")]
    words = [line.removeprefix("#SBATCH --").partition("=") for line in lines]
    return {key: value for key, _, value in words}


def told(script: str, folder: Path, **environment: str) -> list[list[str]]:
    """Run a script with an `airlab` that writes down what it was called with."""
    folder.mkdir(parents=True, exist_ok=True)
    command = folder / "airlab"
    command.write_text(
        "#!/usr/bin/env python3\nimport json, sys\n"
        f"open({str(folder / 'calls')!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
    )
    command.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-eu", "-c", script], env={"PATH": path, **environment}, check=True)
    return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


def test_a_job_asks_for_one_host_and_all_its_gpus() -> None:
    asked = directives(slurm.run_script("airlab-main-smoke", MACHINE, ["scale=smoke"]))
    assert asked["nodes"] == "1" and asked["ntasks-per-node"] == "1" and asked["gpus-per-node"] == "8"
    assert asked["cpus-per-task"] == "64" and asked["time"] == "90" and asked["partition"] == "big"
    assert asked["job-name"] == "airlab-main-smoke" and "requeue" in asked
    assert not {"array", "account", "qos", "constraint", "mem", "wckey"} & set(asked)


def test_a_job_on_several_hosts_asks_for_them_and_runs_airlab_once() -> None:
    asked = directives(slurm.run_script("n", MACHINE.model_copy(update={"hosts": 2}), []))
    assert asked["nodes"] == "2" and asked["ntasks-per-node"] == "1" and asked["gpus-per-node"] == "8"
    script = slurm.run_script("n", MACHINE.model_copy(update={"hosts": 2}), [])
    assert "srun" not in script.splitlines()[-1]


def test_every_setting_reaches_the_script() -> None:
    asked = Slurm(
        hours=2, cpus_per_process=3, memory_gb=64, partition="p", account="a", qos="q", constraint="h100",
        setup=("module load x", "export Y=1"), jobs_at_once=2, logs="there",
    )  # fmt: skip
    machine = MACHINE.model_copy(update={"slurm": asked, "device": "cpu", "processes": 2})
    script = slurm.array_script("n", machine, {number: [] for number in range(5)})
    found = directives(script)
    assert (found["account"], found["qos"], found["constraint"], found["mem"]) == ("a", "q", "h100", "64GB")
    assert found["cpus-per-task"] == "6" and found["array"] == "0-4%2" and "gpus-per-node" not in found
    assert "there" in Path(found["output"]).parts
    assert script.index("module load x") < script.index("export Y=1") < script.index("airlab run")


AWKWARD = ["scale=smoke", "corpus.path='a b; $HOME `ls` \"q\"'", "seeds=[1, 2]", "+x.y=*"]


def test_arguments_arrive_as_they_were_given(tmp_path: Path) -> None:
    script = slurm.run_script("n", MACHINE, AWKWARD)
    assert told(script, tmp_path) == [["run", *AWKWARD]]


def test_every_task_of_an_array_runs_its_own_job(tmp_path: Path) -> None:
    script = slurm.array_script("n", MACHINE, {0: ["seeds=[0]"], 1: AWKWARD, 2: ["seeds=[2]"]})
    for number, expected in (("1", AWKWARD), ("2", ["seeds=[2]"])):
        calls = told(script, tmp_path / number, SLURM_ARRAY_TASK_ID=number)
        assert calls == [["run", *expected]]


def scripts_of(out: str) -> list[str]:
    return ["#!/bin/bash" + text for text in out.split("#!/bin/bash")[1:]]


def test_the_plan_of_a_run_ends_with_its_script_and_leaves_out_what_only_plans_know(
    airlab: Airlab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    only = ("price=2", "planning.hosts=2")
    science = ("experiment=sweep", "scale=smoke", "training.learning_rate=1e-4")
    answer = airlab("plan", *science, "machine=slurm", *only)
    assert answer.code == 0, answer.err
    (script,) = scripts_of(answer.out)
    full = "experiment=attention_influence/sweep"
    assert told(script, tmp_path / "bin") == [["run", full, *science[1:], "machine=slurm"]]


def fingerprints(overrides: list[str]) -> dict[str, str]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        module, bound, command = open_experiment(compose("run", overrides))
    assert command.machine.slurm is not None
    return target_fingerprints(module, bound)


def test_the_array_of_a_sweep_runs_what_the_sweep_would_and_where(airlab: Airlab, tmp_path: Path) -> None:
    base = ["scale=smoke", "machine=slurm-gpu1"]
    answer = airlab("plan", "-m", *base, "selecting.share=0.1,0.5", "folder=sweep", "price=2")
    assert answer.code == 0, answer.err
    (script,) = scripts_of(answer.out)
    assert directives(script)["array"] == "0-1%2" and directives(script)["gpus-per-node"] == "1"
    for number, share in (("0", "0.1"), ("1", "0.5")):
        ((verb, *given),) = told(
            script.partition("\nthen ")[0], tmp_path / number, SLURM_ARRAY_TASK_ID=number
        )
        assert verb == "run" and {f"folder=sweep/{number}", f"results=sweep/{number}"} < set(given)
        assert fingerprints(given) == fingerprints([*base, f"selecting.share={share}"])
    assert "folder=sweep writes the table over all" in answer.out


def test_scripts_are_written_where_they_are_asked_for(airlab: Airlab) -> None:
    answer = airlab("plan", "scale=smoke", "machine=slurm", "scripts=jobs")
    assert answer.code == 0 and "submit it with sbatch" in answer.out and not scripts_of(answer.out)
    (path,) = Path("jobs").iterdir()
    assert path.name == "attention_influence-main.sh"
    command = path.read_text().splitlines()[-1]
    assert shlex.split(command) == ["airlab", "run", "scale=smoke", "machine=slurm"]


def test_scripts_without_slurm_are_refused(airlab: Airlab) -> None:
    answer = airlab("plan", "scale=smoke", "scripts=jobs")
    assert answer.code == 2 and "scripts are for machines with Slurm" in answer.sentence
    assert not Path("jobs").exists()


def test_an_array_is_for_one_machine(airlab: Airlab) -> None:
    answer = airlab(
        "plan", "-m", "scale=smoke", "machine=slurm,slurm-gpu1", "results='r-${machine.processes}'"
    )
    assert answer.code == 2 and "a job array is for one machine" in answer.sentence


def test_a_plan_is_shown_without_the_package_and_scripts_are_refused_with_the_remedy(
    airlab: Airlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airlab.cli.plan.is_installed", lambda: False)
    answer = airlab("plan", "scale=smoke", "machine=slurm")
    assert answer.code == 0 and "pip install 'airlab[slurm]'" in answer.out and not scripts_of(answer.out)
    monkeypatch.setitem(__import__("sys").modules, "submitit.slurm.slurm", None)
    with pytest.raises(UserError, match=r"pip install 'airlab\[slurm\]'"):
        slurm.run_script("n", MACHINE, [])
