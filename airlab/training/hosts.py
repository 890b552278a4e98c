"""Which commands start training on every host: here, by Slurm's srun, or by ssh.

Every host runs `airlab.training.host`, which is torchrun. The first host meets the others at an address and a
port; all see the folder with the job. Each ends when its standard input ends, which srun and ssh pass on.
"""

import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from airlab.errors import UserError
from airlab.schema.machine import Machine

_HANDED_ON = ("AIRLAB_", "CUDA_", "DS_", "GLOO_", "LOGLEVEL", "NCCL_", "OMP_", "PYTHON", "TORCH")
"""What the names of environment variables begin with that ssh hands on, as srun does with all. None holds a
secret: whoever lists processes reads a command line."""


def host_commands(machine: Machine, folder: Path, environment: Mapping[str, str]) -> list[list[str]]:
    """To be started here, together; one for all hosts, or one for each.

    Raises:
        UserError: nothing says which hosts, there are too few of them, or what would start them is missing.
    """
    command = [sys.executable, "-P", "-m", "airlab.training.host", str(folder.resolve())]
    command += [str(machine.hosts), str(machine.processes)]
    if machine.hosts == 1:
        return [command]
    if machine.hostfile is not None:
        return _by_ssh(machine, command, environment)
    if nodes := environment.get("SLURM_JOB_NODELIST"):
        return [_by_srun(machine, command, nodes, environment)]
    raise UserError(
        f"machine.hosts is {machine.hosts}, but this is no Slurm job and machine.hostfile names no hosts: "
        "submit the script of `airlab plan`, name them in a hostfile, or choose machine.hosts=1."
    )


def _by_srun(machine: Machine, command: list[str], nodes: str, environment: Mapping[str, str]) -> list[str]:
    _find("srun", "Slurm's")
    listed = subprocess.run(
        ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True
    )
    names = listed.stdout.split()
    _refuse_too_few(len(names), machine, "this Slurm job has")
    cpus = environment.get("SLURM_CPUS_PER_TASK")  # srun itself does not look at what the job was given
    return [
        *("srun", f"--nodes={machine.hosts}", f"--ntasks={machine.hosts}", "--ntasks-per-node=1"),
        *([f"--cpus-per-task={cpus}"] if cpus else []),
        *("--overlap", "--kill-on-bad-exit=1", *command, names[0], str(_free_port())),
    ]


def _by_ssh(machine: Machine, command: list[str], environment: Mapping[str, str]) -> list[list[str]]:
    _find("ssh", "the")
    assert machine.hostfile is not None
    hosts = _read_hostfile(Path(machine.hostfile))
    _refuse_too_few(len(hosts), machine, f"{machine.hostfile} names")
    for name, slots in hosts[: machine.hosts]:
        if slots is not None and slots < machine.processes:
            raise UserError(
                f"{machine.hostfile} gives {name} {slots} slots and machine.processes is "
                f"{machine.processes}: lower machine.processes, or correct the file."
            )
    variables = [f"{key}={value}" for key, value in environment.items() if key.startswith(_HANDED_ON)]
    port = str(_free_port())
    commands = []
    for rank, (name, _) in enumerate(hosts[: machine.hosts]):
        own = [*command, hosts[0][0], port, str(rank)]
        there = f"cd {shlex.quote(str(Path.cwd()))} && exec {shlex.join(['env', *variables, *own])}"
        commands.append(["ssh", "--", name, there] if rank else own)
    return commands


def _read_hostfile(path: Path) -> list[tuple[str, int | None]]:
    """Names and slots, in the form of DeepSpeed's launcher."""
    try:
        lines = [line.partition("#")[0].split() for line in path.read_text().splitlines()]
        return [
            (name, int(rest[0].removeprefix("slots=")) if rest else None)
            for name, *rest in filter(None, lines)
        ]
    except (OSError, ValueError) as error:
        raise UserError(
            f"machine.hostfile={path} cannot be read ({error}); give a file with a line "
            "`name slots=8` a host."
        ) from error


def _refuse_too_few(found: int, machine: Machine, where: str) -> None:
    if found < machine.hosts:
        raise UserError(
            f"machine.hosts is {machine.hosts} and {where} {found}: "
            f"choose machine.hosts={found}, or have more."
        )


def _find(program: str, whose: str) -> None:
    if shutil.which(program) is None:
        raise UserError(f"training on several hosts is started by {whose} {program}, which is not here.")


def _free_port() -> int:
    """Free here, where mostly the hosts meet."""
    with socket.socket() as found:
        found.bind(("", 0))
        port: int = found.getsockname()[1]
        return port
