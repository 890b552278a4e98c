"""Measures the steps of some traces in a process that dies after so many finished files.

Usage: steps_worker.py FOLDER COUNT; COUNT 0 lets it live. FOLDER holds `model`, `heads.json` and
`traces.jsonl`, and gets the store. Each finished file adds its name to FOLDER/log.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.schema.scoring import Scoring
from airlab.schema.traces import Rendering, Segmentation, TraceColumns
from airlab.stages.import_traces import ImportTraces
from airlab.stages.measure_steps import MeasureSteps
from airlab.store.files import Files
from airlab.store.plan import Plan
from airlab.store.stage import Workdir
from airlab.store.store import Store


def stage(given: Path) -> MeasureSteps:
    """What is measured."""
    return MeasureSteps(
        Files.of(given / "model"),
        Files.of(given / "heads.json"),
        Masking(),
        ImportTraces.of_path(given / "traces.jsonl", TraceColumns()),
        Rendering(template="plain"),
        Segmentation(),
        Scoring(window_tokens=256),
        too_long="skip",
    )


def main() -> None:
    """Count finished files, and die at the right one without any clean-up."""
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    writing, finished = Workdir.writing, 0

    @contextmanager
    def counted(work: Workdir, name: str) -> Iterator[Path]:
        nonlocal finished
        with writing(work, name) as path:
            yield path
        finished += 1
        with (folder / "log").open("a") as log:
            log.write(name + "\n")
        if finished == count:
            os.kill(os.getpid(), signal.SIGKILL)

    replaced: Any = counted
    Workdir.writing = replaced  # type: ignore[method-assign]
    Plan(Store(folder / "store"), [stage(folder)]).run(Machine())


if __name__ == "__main__":
    main()
