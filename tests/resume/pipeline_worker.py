"""`airlab` as a process that dies after so many finished files of one stage.

Usage: python pipeline_worker.py STAGE COUNT VERB [SETTING ...]; COUNT 0 lets it live. Prints nothing of
its own. Each finished file of the stage adds a line to the file named by $PIPELINE_LOG. $PIPELINE_SIGNAL is
what it sends itself, SIGKILL by default.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airlab.cli.main import dispatch
from airlab.store.stage import Workdir


def main() -> int:
    """Count finished files, and die at the right one without any clean-up."""
    stage, count, *command = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    fatal = signal.Signals[os.environ.get("PIPELINE_SIGNAL", "SIGKILL")]
    writing, finished = Workdir.writing, 0

    @contextmanager
    def counted(work: Workdir, name: str) -> Iterator[Path]:
        nonlocal finished
        with writing(work, name) as path:
            yield path
        if work.folder.parent.name == stage:
            finished += 1
            with Path(os.environ["PIPELINE_LOG"]).open("a") as log:
                log.write(name + "\n")
            if finished == int(count):
                os.kill(os.getpid(), fatal)

    replaced: Any = counted
    Workdir.writing = replaced  # type: ignore[method-assign]
    return dispatch(command)


if __name__ == "__main__":
    sys.exit(main())
