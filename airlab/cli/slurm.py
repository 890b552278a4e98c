"""Job scripts for a Slurm cluster: what `airlab plan` shows on a machine that says how to ask for one.

A script calls the same `airlab run` that a user would, inside the allocation; nothing is pickled, and nothing
is known about the job afterwards but what lies in the store. Jobs that need the same artifact make it once:
the store's lock lets the others wait. So the store must lie where all hosts see it and can lock files.
"""

import importlib.util
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.store.durable import written


def is_installed() -> bool:
    """Whether what writes the scripts is there."""
    return importlib.util.find_spec("submitit") is not None


def run_script(name: str, machine: Machine, overrides: Sequence[str]) -> str:
    """The script of one job, in which `airlab run` does everything that is missing."""
    return _script(name, machine, _command(overrides), {})


def array_script(name: str, machine: Machine, jobs: Mapping[int, Sequence[str]]) -> str:
    """The script of a job array: a task of its own for each job of a sweep, by its number."""
    cases = [f"  {number}) {_command(overrides)} ;;" for number, overrides in jobs.items()]
    command = "\n".join(['case "$SLURM_ARRAY_TASK_ID" in', *cases, "esac"])
    assert machine.slurm is not None
    array = {"map_count": len(jobs), "array_parallelism": machine.slurm.jobs_at_once}
    return _script(name, machine, command, array)


def write_script(folder: Path, name: str, script: str) -> Path:
    """Save a script; it is whole or not there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.sh"
    with written(path) as temporary:
        temporary.write_text(script + "\n")
    return path


def _command(overrides: Sequence[str]) -> str:
    return shlex.join(["airlab", "run", *overrides])


def _script(name: str, machine: Machine, command: str, array: Mapping[str, int]) -> str:
    try:
        # The function behind submitit's executor. Its own entry would pickle a function and submit it from
        # here; the package's version is bounded, and a test reads what comes out.
        from submitit.slurm.slurm import _make_sbatch_string
    except ImportError as error:
        raise UserError(
            "job scripts for Slurm are written by submitit, which is not installed; "
            "pip install 'airlab[slurm]', or choose a machine without Slurm."
        ) from error
    asked = machine.slurm
    assert asked is not None
    gpus = machine.processes if machine.device == "cuda" else None
    settings: dict[str, Any] = {
        "job_name": name,
        "time": math.ceil(60 * asked.hours),
        "nodes": machine.hosts,
        # `airlab run` is there once, on the first host, and starts training on all of them itself.
        "ntasks_per_node": 1,
        "cpus_per_task": machine.processes * asked.cpus_per_process,
        "gpus_per_node": gpus,
        "mem": f"{asked.memory_gb}GB" if asked.memory_gb else None,
        "partition": asked.partition,
        "account": asked.account,
        "qos": asked.qos,
        "constraint": asked.constraint,
        "setup": list(asked.setup),
        # A preempted job goes on where it was; an unset option of submitit's own is left out.
        "additional_parameters": {"requeue": True},
        "wckey": None,
        "use_srun": False,
        **array,
    }
    script: str = _make_sbatch_string(command=command, folder=Path(asked.logs), **settings)
    return script.rstrip()
