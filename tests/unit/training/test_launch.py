"""What cannot be trained as a machine asks is told in a sentence, and how hosts are started."""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.schema.training import Training
from airlab.store.durable import disk_trouble
from airlab.training import hosts, launch, worker
from airlab.training.engine import Engine
from airlab.training.out_of_memory import memory_errors
from airlab.training.worker import Told, read_told, run_job

TRAINING = Training(budget_tokens=1, batch_sequences=16, learning_rate=1e-3, warmup_fraction=0.1)


def a_job(folder: Path, machine: Machine) -> Any:
    return SimpleNamespace(machine=machine, output=folder, check=lambda: None, run=lambda: {"n_steps": 1})


def test_processes_of_another_launcher_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = a_job(tmp_path, Machine())
    for name in ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE"):
        with (
            monkeypatch.context() as patch,
            pytest.raises(UserError, match=f"{name} is 2, as torchrun.* unset"),
        ):
            patch.setenv(name, "2")
            launch.launch(job)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert launch.launch(job) == {"n_steps": 1}


def test_a_stage_without_deepspeed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"DeepSpeed is not installed; pip install 'airlab\[train\]'"):
        launch.launch(a_job(tmp_path, Machine(deepspeed_stage=2)))


@pytest.mark.parametrize(("found", "said"), [(0, "no GPU is visible"), (1, "is 2 and 1 GPUs are visible")])
def test_more_processes_than_gpus_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: int, said: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: found > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: found)
    machine = Machine(device="cuda", processes=2)
    with pytest.raises(UserError, match=said):
        launch.launch(a_job(tmp_path, machine))
    with pytest.raises(UserError, match=said):  # as every host finds for itself
        Engine(nn.Linear(4, 4), TRAINING, machine, None)


@pytest.mark.parametrize(
    ("stage", "said"),
    [(1, "the model has 12 elements"), (3, "bias has 3 elements; choose machine.deepspeed_st")],
)
def test_a_model_with_fewer_elements_than_processes_is_refused(stage: Any, said: str) -> None:
    with pytest.raises(UserError, match=f"too small for ZeRO stage {stage} on 16 processes: {said}"):
        Engine(nn.Linear(3, 3), TRAINING, Machine(processes=16, deepspeed_stage=stage), None)


def test_offloading_that_cannot_be_is_refused() -> None:
    for settings in ({"offload": "optimizer"}, {"offload": "optimizer", "deepspeed_stage": 0}):
        with pytest.raises(ValidationError, match="needs deepspeed_stage=1, 2 or 3"):
            Machine.model_validate(settings)
    with pytest.raises(ValidationError, match="offload=all needs deepspeed_stage=3"):
        Machine(offload="all", deepspeed_stage=2)


MUCH = 1 << 46


def raise_of_gpu() -> dict[str, object]:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore")


@pytest.mark.parametrize(
    ("does", "said"),
    [
        (raise_of_gpu, r"^A GPU ran out of memory while training \(CUDA out of memory[^\n]*GiB\.\): "),
        (lambda: torch.empty(MUCH), "^The host ran out of memory while training "),
        (lambda: bytearray(MUCH), "^The host ran out of memory while training "),
    ],
)
def test_too_little_memory_is_told_with_what_would_help(tmp_path: Path, does: Any, said: str) -> None:
    job = a_job(tmp_path, Machine(sequences_per_micro_batch=8))
    job.run = does
    with pytest.raises(UserError, match=said) as told:
        run_job(job)
    for remedy in ("sequences_per_micro_batch, which is 8", "recompute=true", "deepspeed_stage=3"):
        assert remedy in str(told.value)
    least = Machine(sequences_per_micro_batch=1, recompute=True, deepspeed_stage=3)
    with (
        pytest.raises(UserError, match="keep optimizer and weights in the host") as told,
        memory_errors(least),
    ):
        raise_of_gpu()
    assert "sequences" not in str(told.value) and "recompute" not in str(told.value)


def test_other_errors_are_no_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"), memory_errors(Machine()):
        torch.zeros(2, 3) @ torch.zeros(2, 3)


def test_what_any_process_says_is_heard(tmp_path: Path) -> None:
    def say(rank: int, **said: object) -> None:
        (tmp_path / f"process-{rank}.json").write_text(json.dumps(said) + " " * 100)

    assert read_told(tmp_path, 3) == Told(None, None, None)
    (tmp_path / "process-0.json").write_text(" " * 100)
    say(1, failure="first")
    say(2, failure="second, since the first was gone")
    assert read_told(tmp_path, 3) == Told(None, None, "first")
    say(2, mistake="of the user")
    assert read_told(tmp_path, 3) == Told(None, "of the user", "first")
    say(0, facts={"n_steps": 1})
    assert read_told(tmp_path, 1) == Told({"n_steps": 1}, None, None)


TWO = Machine(hosts=2, processes=4)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs, before all others: an ssh, an srun and a Slurm that knows two hosts."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, does in (("ssh", ""), ("srun", ""), ("scontrol", "echo first; echo second")):
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return folder


def test_hosts_that_nobody_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"machine.hosts is 2, but this is no Slurm job and machine.hostfile"):
        hosts.host_commands(TWO, tmp_path, {})


@pytest.mark.usefixtures("programs")
def test_slurm_starts_one_torchrun_a_host(tmp_path: Path) -> None:
    job = {"SLURM_JOB_NODELIST": "h[1-2]", "SLURM_CPUS_PER_TASK": "96"}
    ((*command,),) = hosts.host_commands(TWO, tmp_path, job)
    assert command[:4] == ["srun", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1"]
    assert "--cpus-per-task=96" in command and "--kill-on-bad-exit=1" in command
    *_, module, folder, n_hosts, processes, address, _port = command
    assert (module, folder, n_hosts, processes) == ("airlab.training.host", str(tmp_path), "2", "4")
    assert address == "first"
    three = TWO.model_copy(update={"hosts": 3})
    with pytest.raises(UserError, match="is 3 and this Slurm job has 2: choose"):
        hosts.host_commands(three, tmp_path, job)


@pytest.mark.usefixtures("programs")
def test_ssh_starts_the_other_hosts_with_our_settings(tmp_path: Path) -> None:
    names = tmp_path / "names"
    names.write_text("# ours\none slots=4\n\ntwo slots=8  # larger\nthree\n")
    machine = TWO.model_copy(update={"hostfile": str(names)})
    environment = {"AIRLAB_STORE": "a b", "HF_TOKEN": "secret", "HOME": "/elsewhere", "PYTHONPATH": "there"}
    here, there = hosts.host_commands(machine, tmp_path, environment)
    assert here[-5:-2] == ["2", "4", "one"] and here[-1] == "0"
    assert there[:3] == ["ssh", "--", "two"]
    words = shlex.split(there[3])
    assert words[:2] == ["cd", str(Path.cwd())] and words[3:7] == [
        "exec",
        "env",
        "AIRLAB_STORE=a b",
        "PYTHONPATH=there",
    ]
    assert words[7:-1] == here[:-1] and words[-1] == "1"


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("one slots=4\n", "names 1: choose machine.hosts=1"),
        ("one slots=4\ntwo slots=2\n", "gives two 2 slots and machine.processes is 4"),
        ("one slots=many\ntwo\n", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_hostfiles_that_do_not_suffice_are_refused(tmp_path: Path, text: str | None, said: str) -> None:
    names = tmp_path / "names"
    if text is not None:
        names.write_text(text)
    with pytest.raises(UserError, match=said):
        hosts.host_commands(TWO.model_copy(update={"hostfile": str(names)}), tmp_path, {})


def launched(folder: Path, monkeypatch: pytest.MonkeyPatch, *scripts: str) -> dict[str, object]:
    """Launch two hosts that run these scripts in the folder where processes say what they have to."""
    commands = [["sh", "-c", f"cd {folder}/{launch.LAUNCH} && {script}"] for script in scripts]
    monkeypatch.setattr(launch, "host_commands", lambda *_: commands)
    job = a_job(folder, TWO)
    job.model_dump_json = lambda: "{}"
    return launch.launch(job)


def say(rank: int, **said: object) -> str:
    return f"echo {shlex.quote(json.dumps(said))} > process-{rank}.json"


def test_facts_come_from_the_first_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched(tmp_path, monkeypatch, say(0, facts={"n_steps": 3}), "true") == {"n_steps": 3}
    assert not list(tmp_path.iterdir())


def test_a_host_that_fails_ends_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first would sleep for ever; what the second's process said is what is told."""
    with pytest.raises(UserError, match="of the user"):
        launched(tmp_path, monkeypatch, "exec sleep 100000", f"{say(5, mistake='of the user')}; exit 1")
    assert not list(tmp_path.iterdir())
    with pytest.raises(RuntimeError, match=r"training failed: processes ended with \[None, 7\]"):
        launched(tmp_path, monkeypatch, "exec sleep 100000", "exit 7")


def test_a_full_disk_under_several_processes_is_told_as_under_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = "SafetensorError: I/O error: No space left on device (os error 28)"
    with pytest.raises(RuntimeError, match="No space left on device") as failed:
        launched(tmp_path, monkeypatch, f"{say(0, failure=full)}; exit 1", "true")
    assert "the disk is full" in str(disk_trouble(failed.value, tmp_path, 0))


def test_a_process_takes_room_for_what_it_will_say(tmp_path: Path) -> None:
    """On a full disk nothing else can be written."""
    reply = tmp_path / "process-0.json"
    reply.write_text(" " * worker._ROOM)
    worker._tell(reply, {"failure": "x" * (worker._ROOM // 2)})
    assert reply.stat().st_size == worker._ROOM
    assert read_told(tmp_path, 1).failure == "x" * (worker._ROOM // 2)
