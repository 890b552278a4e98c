"""Jobs in processes of their own, one after another: each with its log, none able to take another down."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from airlab.cli.answer import Failed
from airlab.progress import announce

_LONGEST_LINE = 240
"""Characters; what is longer is no progress and goes to the log alone."""

_GRACE_S = 20.0
"""Time to end in order for a job whose input was closed."""


@dataclass(frozen=True)
class Job:
    """One call in a process of its own.

    Attributes:
        name: what its lines on the terminal begin with.
        told: what is special about it, such as its overrides.
        verb: the command it belongs to, for its error messages.
        call: ``module:function``, which gets the arguments.
        arguments: JSON values.
        folder: where its log goes.
    """

    name: str
    told: str
    verb: str
    call: str
    arguments: tuple[Any, ...]
    folder: Path

    @property
    def log(self) -> Path:
        """Everything it prints, anew in every run."""
        return self.folder / "log.txt"

    @property
    def title(self) -> str:
        """Such as ``job 1 (selecting.share=0.5)``."""
        return f"{self.name} ({self.told})" if self.told else self.name


@dataclass(frozen=True)
class Failure:
    """A job that did not end well; `code` is negative where a signal killed it."""

    job: Job
    code: int
    last_line: str

    @property
    def sentence(self) -> str:
        """What happened, and where to read on."""
        how = f"ended with exit code {self.code}"
        if self.code < 0:
            how = f"was killed by {signal.Signals(-self.code).name}"
        return f"{self.job.title} {how}: {self.last_line or 'it said nothing'} (log: {self.job.log})"


def run_jobs(jobs: Sequence[Job]) -> tuple[Failure, ...]:
    """Run every job and say how each ended; those that failed are returned.

    When this process is interrupted or dies, the running job ends too.
    """
    failures = []
    for job in jobs:
        announce(f"{job.title} started, log: {job.log}")
        code = _run(job)
        if code == 0:
            announce(f"{job.name} done")
        else:
            failures.append(Failure(job, code, _last_line(job.log)))
            announce(failures[-1].sentence)
    return tuple(failures)


def refuse_failures(failures: Sequence[Failure], total: int) -> None:
    """Name every job that failed.

    Raises:
        Failed: there is one. The exit code is 2 where the user's mistakes are all that went wrong.
    """
    if failures:
        announce("\n".join(failure.sentence for failure in failures))
        raise Failed(
            f"{len(failures)} of {total} jobs failed and are named above; the same command tries them again.",
            code=2 if all(failure.code == 2 for failure in failures) else 1,
        )


def _run(job: Job) -> int:
    job.folder.mkdir(parents=True, exist_ok=True)
    job.log.unlink(missing_ok=True)
    with job.log.open("a", encoding="utf-8") as log, _process(log) as process:
        assert process.stdin and process.stderr
        told = threading.Thread(target=_forward, args=(process.stderr, log, job.name))
        told.start()
        try:
            request = {"verb": job.verb, "call": job.call, "arguments": job.arguments}
            with suppress(BrokenPipeError):  # it died already, and its exit code says how
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
            return process.wait()
        except BaseException:  # an interrupt: the job is told by its input's end
            with suppress(BrokenPipeError):
                process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)
            raise
        finally:
            _kill_group(process.pid)
            process.wait()
            told.join()


@contextmanager
def _process(log: IO[str]) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "airlab.cli.job"],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env=os.environ
        | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        # Ctrl-C is for us to handle, and what the job started ends with it.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for stream in (process.stdin, process.stderr):
            with suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]


def _forward(lines: IO[str], log: IO[str], name: str) -> None:
    """Everything to the log; progress, and no traceback, to the terminal."""
    shown = True
    for line in lines:
        log.write(line)
        log.flush()
        shown = shown and not line.startswith("Traceback ")
        if shown and line.strip() and len(line) <= _LONGEST_LINE:
            announce(f"{name}: {line.rstrip()}")


def _kill_group(leader: int) -> None:
    """Kill what a job left running, such as the processes of a training that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
