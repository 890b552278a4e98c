"""One of several processes that train one job after another: starting them takes longer than these trainings.

Usage: torchrun … -m tests.invariance.trains_in_turn FOLDER. FOLDER holds `jobs.json`: a list of jobs, each
with after how many updates it stops (null: it ends). The first process leaves a list of facts, null for a job
that was stopped.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState

from airlab.training import loop
from airlab.training.pretrain import Job, pretrain


class Stopped(Exception):
    """In every process after the same update."""


def main(folder: Path) -> None:
    """Train them all."""
    facts: list[object] = []
    write = loop._checkpoint
    destroy = torch.distributed.destroy_process_group
    replaced: Any = lambda: None  # noqa: E731 (the next job has the same processes)
    torch.distributed.destroy_process_group = replaced
    for given in json.loads((folder / "jobs.json").read_text()):

        def write_and_stop(*what: Any, after: int | None = given["stop"]) -> None:
            if what[-1] == after:
                write(*what)
                torch.distributed.barrier()
                raise Stopped

        stopping: Any = write_and_stop
        loop._checkpoint = stopping
        try:
            facts.append(pretrain(Job.model_validate_json(json.dumps(given["job"]))))
        except Stopped:
            facts.append(None)
        AcceleratorState._reset_state(reset_partial_state=True)
        for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
            del os.environ[name]
    destroy()
    (folder / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
