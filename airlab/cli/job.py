"""A job's process, seen from inside: one JSON request on standard input; the exit code is the answer.

It ends when its input ends, so it never outlives the process that started it.
"""

import importlib
import json
import os
import signal
import sys
import time
from types import TracebackType

from airlab.cli.answer import answer
from airlab.lifeline import at_end_of_input

_GRACE_S = 10.0


def main() -> None:
    """Do what the request says."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    sys.excepthook = _tell
    request = json.loads(sys.stdin.readline())
    at_end_of_input(_end)
    module, function = request["call"].split(":")

    def call() -> None:
        getattr(importlib.import_module(module), function)(*request["arguments"])

    sys.exit(answer(request["verb"], call))


def _end() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(_GRACE_S)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The traceback, and below it the error once more: the last line is what the report shows."""
    sys.__excepthook__(kind, error, trace)
    print(f"{kind.__name__}: {' '.join(str(error).split())}", file=sys.stderr)


if __name__ == "__main__":
    main()
