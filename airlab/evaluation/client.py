"""The process lm-eval runs in, seen from outside: started once, reused by every evaluation of a run.

lm-eval gets its own process because it changes global state (seeds, environment, logging) and because
importing it takes seconds; a crash in it must not take the run's other results along.
"""

import atexit
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airlab.errors import UserError
from airlab.progress import progress
from airlab.schema.evaluation import HarnessSpec

if TYPE_CHECKING:
    from airlab.heads.mask import HeadMask

LOG_TAIL_LINES = 15


class EvaluationError(RuntimeError):
    """The evaluation process failed; the message ends with the last lines of its log."""


@dataclass
class Worker:
    """One evaluation process; `offline` switches every hub off in it."""

    offline: bool
    _process: "subprocess.Popen[str] | None" = None
    _log: IO[str] | None = None
    _own: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send one request and wait for its reply.

        Raises `UserError` for what the user can mend and `EvaluationError` for a failure or a crash.
        """
        process = self._running()
        assert process.stdin and process.stdout
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            reply = _reply(process.stdout)
        except BrokenPipeError:
            reply = {}
        except BaseException:  # an interrupt: nobody will read this reply any more
            self.close()
            raise
        if not reply:
            code = process.wait()
            tail = self._log_tail()
            self.close()
            raise EvaluationError(
                f"the evaluation process ended with exit code {code}; its log ends with:\n{tail}"
            )
        if "user_error" in reply:
            raise UserError(reply["user_error"])
        if "error" in reply:
            raise EvaluationError(f"{reply['error']}\nThe evaluation's log ends with:\n{self._log_tail()}")
        result: dict[str, Any] = reply["ok"]
        return result

    def close(self) -> None:
        """Kill the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdin
            # A request that a dead process did not read is still in the buffer, and closing flushes it.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._own.close()
        self._process = self._log = None

    @property
    def pid(self) -> int | None:
        """The running process's id, None before the first request."""
        return self._process.pid if self._process else None

    def _running(self) -> "subprocess.Popen[str]":
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        environment = dict(os.environ, TOKENIZERS_PARALLELISM="false", PYTHONUNBUFFERED="1")
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        if self.offline:
            # A fresh cache of prepared data sets: a stale one must never stand in for a task's items.
            cache = self._own.enter_context(tempfile.TemporaryDirectory(prefix="airlab-evaluation-"))
            environment |= {
                "HF_DATASETS_CACHE": cache,
                "HF_HUB_OFFLINE": "1",
                "HF_DATASETS_OFFLINE": "1",
                "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            }
        log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 (closed with us)
        self._log = self._own.enter_context(log)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "airlab.evaluation.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
            # Ctrl-C is for us to handle; the worker is killed in order below.
            start_new_session=True,
        )
        self._own.enter_context(self._process.stdin)  # type: ignore[arg-type]
        self._own.enter_context(self._process.stdout)  # type: ignore[arg-type]
        return self._process

    def _log_tail(self) -> str:
        if self._log is None:
            return ""
        self._log.seek(0)
        lines = self._log.read().splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])


def _reply(lines: IO[str]) -> dict[str, Any]:
    """The next reply, empty if there is none any more; what comes before it says how far the work is."""
    with contextlib.ExitStack() as shown:
        phase, done = 0, 0
        advance: Callable[[float], None] | None = None
        for line in lines:
            told: dict[str, Any] = json.loads(line)
            if "phase" not in told:
                return told
            if advance is None or told["phase"] != phase:
                shown.close()
                phase, done = told["phase"], 0
                advance = shown.enter_context(progress(told["label"], told["unit"], told["total"]))
            advance(told["done"] - done)
            done = told["done"]
    return {}


_workers: dict[bool, Worker] = {}


def worker(*, offline: bool) -> Worker:
    """This process's evaluation worker; closed at exit."""
    if offline not in _workers:
        _workers[offline] = Worker(offline)
        atexit.register(_workers[offline].close)
    return _workers[offline]


def benchmark_texts(benchmark: str) -> tuple[list[str], dict[str, Any]]:
    """Texts of a benchmark's items that it does not evaluate, and facts about them, JSON-ready."""
    told = worker(offline=False).ask({"benchmark": benchmark})
    return told.pop("texts"), told


def evaluate(
    checkpoint: Path,
    suite: Path | HarnessSpec,
    output: Path,
    *,
    batch_size: int,
    device: str,
    seed: int,
    mask: "HeadMask | None" = None,
) -> dict[str, Any]:
    """Evaluate a checkpoint folder and write its records (Parquet) to `output`.

    `suite` is a tasks folder (`airlab.evaluation.tasks`) or the harness's own benchmarks. `seed` is the
    seed the checkpoint was trained with; it is copied into every record. `mask` says which of the
    checkpoint's heads are masked.

    Returns facts about the run (counts, versions, seconds), JSON-ready.
    """
    local = isinstance(suite, Path)
    return worker(offline=local).ask(
        {
            "checkpoint": str(checkpoint.absolute()),
            "tasks": str(suite.absolute()) if isinstance(suite, Path) else None,
            "spec": None if isinstance(suite, Path) else suite.model_dump_json(),
            "output": str(output.absolute()),
            "batch_size": batch_size,
            "device": device,
            "seed": seed,
            "mask": None if mask is None else asdict(mask),
        }
    )
