"""Starting a training run in this process, or in several on this host or on many."""

import importlib.util
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import airlab
from airlab.errors import UserError
from airlab.lifeline import lifeline
from airlab.schema.machine import Machine
from airlab.training.builds import refuse_abandoned_builds
from airlab.training.engine import refuse_missing_devices
from airlab.training.hosts import host_commands
from airlab.training.worker import JOB, AnyJob, read_told, run_job

LAUNCH = "launch"
"""Folder in a job's output, which all hosts see: the job, and what its processes have to say."""

_WORLD_SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""What accelerate takes the number of processes from."""

_LOOK_EVERY_S = 0.2


def launch(job: AnyJob) -> dict[str, object]:
    """Run the job as its machine asks and return its facts.

    One process without DeepSpeed runs right here; anything else is started by torchrun, on every host. Raises
    UserError for the user's mistakes, and RuntimeError when a process failed otherwise.
    """
    machine = job.machine
    _refuse_foreign_launcher()
    shutil.rmtree(job.output / LAUNCH, ignore_errors=True)  # of an attempt that was killed
    if machine.world == 1 and machine.deepspeed_stage is None:
        return run_job(job)
    _refuse_missing(machine)
    job.check()
    with _folder(job) as folder, lifeline() as standard_input:
        environment = os.environ | _environment(machine)
        hosts = [
            subprocess.Popen(command, stdin=standard_input, env=environment)
            for command in host_commands(machine, folder, environment)
        ]
        try:
            codes = _ended(hosts)
        finally:  # where one failed, the others wait for it
            for host in hosts:
                host.terminate()
                host.wait()
        told = read_told(folder, machine.world)
        if told.mistake is not None:
            raise UserError(told.mistake)
        if any(codes) or told.facts is None:
            raise RuntimeError(f"training failed: {told.failure or f'processes ended with {codes}'}")
        return told.facts


def _ended(hosts: list[subprocess.Popen[bytes]]) -> list[int | None]:
    """Wait until all have ended well, or one has not."""
    while True:
        codes = [host.poll() for host in hosts]
        if None not in codes or any(codes):
            return codes
        time.sleep(_LOOK_EVERY_S)


@contextmanager
def _folder(job: AnyJob) -> Iterator[Path]:
    folder = job.output / LAUNCH
    folder.mkdir()
    try:
        (folder / JOB).write_text(job.model_dump_json())
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_foreign_launcher() -> None:
    for name in _WORLD_SIZES:
        if os.environ.get(name, "1") != "1":
            raise UserError(
                f"{name} is {os.environ[name]}, as torchrun, mpirun or another launcher sets it, but airlab "
                "starts training's processes by itself: run airlab once, unset that variable, and say "
                "machine.processes and machine.hosts."
            )


def _refuse_missing(machine: Machine) -> None:
    if machine.deepspeed_stage is not None:
        if importlib.util.find_spec("deepspeed") is None:
            raise UserError(
                f"machine.deepspeed_stage is {machine.deepspeed_stage} and DeepSpeed is not installed; "
                "pip install 'airlab[train]', or choose machine.deepspeed_stage=null."
            )
        refuse_abandoned_builds()
    if machine.hosts == 1:  # otherwise every host looks for itself: this one may have none
        refuse_missing_devices(machine)


def _environment(machine: Machine) -> dict[str, str]:
    """What all hosts need beyond what is set here."""
    packages = str(Path(airlab.__file__).parents[1])
    threads = str(max(1, (os.cpu_count() or 1) // machine.processes))
    environment = {
        "PYTHONSAFEPATH": "1",  # nothing is imported from the folder that the user is in
        "PYTHONPATH": os.pathsep.join(filter(None, [packages, os.environ.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
        "LOGLEVEL": os.environ.get("LOGLEVEL", "CRITICAL"),  # torchrun's; the processes tell what went wrong
    }
    if machine.device == "cpu":
        environment |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return environment
