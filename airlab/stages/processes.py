"""Tasks handed to processes of our own, one at a time to whichever is free.

A process is a Python module that is started anew, never forked: libraries' threads do not survive that. It
is told what it needs by its first line of standard input and a task by each line after, and answers in lines
of JSON: any number of `{"done": units}`, then `{"result": ...}` or `{"mistake": sentence}`. It ends when its
standard input does, so none outlives whoever started it.
"""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import airlab
from airlab.errors import UserError


def in_processes(
    module: str,
    job: str,
    tasks: Sequence[str],
    processes: int,
    done: Callable[[float], None],
    environment: dict[str, str],
) -> Iterator[tuple[int, Any]]:
    """The number of every task and its result, as they come.

    Args:
        job: the first line that every process is told.
        done: told of units that are done.
        environment: what differs from our own.

    Raises:
        UserError: a task's mistake, or a process was killed.
        RuntimeError: a process failed otherwise.
    """
    pool = _Pool(module, job, tasks, environment)
    try:
        with ThreadPoolExecutor(processes) as threads:
            for _ in range(processes):
                threads.submit(pool.serve)
            try:
                for _ in tasks:
                    while "result" not in (reply := pool.replies.get()):
                        if "raised" in reply:
                            raise reply["raised"]
                        done(reply["done"])
                    yield reply["task"], reply["result"]
            finally:
                pool.stop()
    finally:
        pool.stop()


class _Pool:
    """The tasks that are left, the processes at work, and what they answer."""

    def __init__(self, module: str, job: str, tasks: Sequence[str], environment: dict[str, str]) -> None:
        self._command = [sys.executable, "-P", "-m", module]
        self._environment = _importing(environment)
        self._job = job
        self._left = iter(enumerate(tasks))
        self._lock = threading.Lock()
        self._stopped = False
        self._running: list[subprocess.Popen[str]] = []
        self.replies: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def serve(self) -> None:
        """Start a process and hand it tasks until there are none; runs in a thread."""
        try:
            if (task := self._next()) is not None:
                with self._start() as process:
                    _send(process, self._job)
                    while task is not None:
                        self._hand(process, *task)
                        task = self._next()
        except BaseException as error:
            self.replies.put({"raised": error})
            raise

    def stop(self) -> None:
        """Hand out nothing more, and end the processes at once: what they were at, the next attempt does."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()

    def _start(self) -> subprocess.Popen[str]:
        with self._lock:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=self._environment,
                start_new_session=True,  # an interrupt from the keyboard is ours to answer
            )
            self._running.append(process)
            if self._stopped:
                process.kill()
            return process

    def _next(self) -> tuple[int, str] | None:
        with self._lock:
            return None if self._stopped else next(self._left, None)

    def _hand(self, process: subprocess.Popen[str], number: int, task: str) -> None:
        _send(process, task)
        for line in _lines(process):
            reply = json.loads(line)
            if "mistake" in reply:
                raise UserError(reply["mistake"])
            self.replies.put({"task": number, **reply})
            if "result" in reply:
                return
        code = process.wait()
        if code < 0:
            raise UserError(
                f"a process was killed by signal {-code}, as systems do when memory runs out; run the same "
                "command again, it continues from what is finished, with a smaller machine.processes if it "
                "happens again."
            )
        raise RuntimeError(f"a process failed with exit code {code}; what it said stands above")


def _importing(environment: dict[str, str]) -> dict[str, str]:
    packages = str(Path(airlab.__file__).parents[1])
    path = os.pathsep.join(filter(None, [packages, os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path} | environment


def _send(process: subprocess.Popen[str], line: str) -> None:
    try:
        _pipe(process.stdin).write(line + "\n")
        _pipe(process.stdin).flush()
    except BrokenPipeError:
        return  # it died: reading from it will say so


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    return iter(_pipe(process.stdout).readline, "")


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
