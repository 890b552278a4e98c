"""One of the processes that torchrun starts: `torchrun … -m airlab.training.worker FOLDER`.

It ends when its standard input ends. torchrun survives the process that started it and hands its input on: a
training that went on by itself would write into the folder that the next attempt continues.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from airlab.errors import UserError, first_line
from airlab.lifeline import at_end_of_input
from airlab.training.fine_tune import TuningJob
from airlab.training.out_of_memory import memory_errors
from airlab.training.pretrain import Job

JOB = "job.json"

AnyJob = Job | TuningJob
_JOB: TypeAdapter[AnyJob] = TypeAdapter(Annotated[AnyJob, Field(discriminator="kind")])

_ROOM = 4096
"""Bytes that every process takes at the start for what it will have to say, which may be that the disk is
full."""


@dataclass(frozen=True)
class Told:
    """What the processes of a job said in the end; one is there, or none if they were killed."""

    facts: dict[str, object] | None
    mistake: str | None
    """Of the user."""
    failure: str | None


def run_job(job: AnyJob) -> dict[str, object]:
    """Do it, with a sentence where memory does not suffice."""
    with memory_errors(job.machine):
        return job.run()


def read_told(folder: Path, world: int) -> Told:
    """The first process's facts, any one's mistake, and the first failure, which others follow from."""
    paths = [path for rank in range(world) if (path := _reply(folder, rank)).exists()]
    said: dict[str, Any] = {}
    for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        said |= json.loads(path.read_text().strip() or "{}")
    return Told(said.get("facts"), said.get("mistake"), said.get("failure"))


def main(folder: Path) -> None:
    """Run the job; facts, and what went wrong, are left beside it."""
    at_end_of_input(lambda: os._exit(1))
    rank = int(os.environ["RANK"])
    reply = _reply(folder, rank)
    reply.write_text(" " * _ROOM)
    try:
        facts = run_job(_JOB.validate_json((folder / JOB).read_bytes()))
    except UserError as mistake:
        _tell(reply, {"mistake": str(mistake)})
        sys.exit(2)
    except Exception as error:
        _tell(reply, {"failure": f"{type(error).__name__}: {first_line(error)}"[: _ROOM // 2]})
        raise
    if rank == 0:
        _tell(reply, {"facts": facts})


def _reply(folder: Path, rank: int) -> Path:
    return folder / f"process-{rank}.json"


def _tell(reply: Path, said: dict[str, object]) -> None:
    """Over the room that was taken for it."""
    with reply.open("r+b") as file:
        file.write(json.dumps(said).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
