"""One attempt at a pipeline: a fork of this process, which has imported everything and computed nothing.

Importing takes seconds and an attempt a moment, and a suite that kills hundreds of them has to fork. A fork
of a process with threads waits for ever now and then, so the process that forks starts none.
"""

import atexit
import hashlib
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airlab.cli.answer import answer
from airlab.store.durable import REPLACED, WRITING

SENTENCE = "airlab made: stopped; the same command continues where it was."
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_EVENTS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link"}


KEPT: dict[str, Any] = {}
"""What one attempt found out and no other has to, by name: JSON."""


@dataclass(frozen=True)
class Attempt:
    """How an attempt ended.

    Attributes:
        code: the exit code, negative where a signal killed it.
        operations: what it did to the disk below its place; None where it could not tell.
        modules: what it imported besides; likewise.
        kept: what it kept for others; likewise.
        wall_s: from the fork to the end.
        told: what it printed on standard error.
    """

    code: int
    operations: int | None
    modules: tuple[str, ...]
    kept: dict[str, Any]
    wall_s: float
    told: str


class Operations:
    """Counts what this process does to the disk below a folder, and calls `reached` at one of them.

    Opening for writing, renaming, making and deleting, which Python tells, and flushing. What a library
    writes in between by itself is broken at random moments.
    """

    def __init__(self, folder: Path, at: int | None, reached: Callable[[], None]) -> None:
        self._below, self._at, self._reached = str(folder), at, reached
        self._lock = threading.RLock()
        self.count = 0

    def watch(self) -> None:
        """From now on."""
        sys.addaudithook(self._hook)
        fsync = os.fsync

        def counted(descriptor: Any) -> None:
            self._add()
            fsync(descriptor)

        os.fsync = counted

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        written = event in _EVENTS or (event == "open" and (arguments[2] or 0) & _WRITES)
        if not written or not isinstance(arguments[0], str | os.PathLike):
            return
        if os.path.abspath(arguments[0]).startswith(self._below):  # noqa: PTH100 (no lookups in here)
            self._add()

    def _add(self) -> None:
        with self._lock:
            self.count += 1
            reached = self.count == self._at
        if reached:
            self._reached()


def attempt(
    work: Callable[[], None],
    place: Path,
    *,
    at: int | None = None,
    by: signal.Signals = signal.SIGKILL,
    after_s: float | None = None,
    before: Callable[[], None] | None = None,
) -> Attempt:
    """Do `work` in a fork whose current folder is `place`, with its store in it.

    Args:
        at: the operation before which it sends `by` to itself.
        after_s: when to send `by` to it from outside.
        before: called in the fork before anything is watched.
    """
    reader, writer = os.pipe()
    errors = place.parent / f"{place.name}.stderr"
    sys.stdout.flush()
    began = time.monotonic()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # in the fork, until there is something to stop
    child = os.fork()
    if child == 0:
        _be_child(work, place, errors, writer, at, by, before)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    os.close(writer)
    if after_s is not None:
        time.sleep(after_s)
        os.kill(child, by)  # waited for below, so the number is still its own
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    wall_s = time.monotonic() - began
    with os.fdopen(reader) as pipe:
        facts = json.loads(pipe.read() or "{}")
    told = errors.read_text(errors="replace")
    modules, kept = tuple(facts.get("modules", ())), facts.get("kept", {})
    return Attempt(code, facts.get("operations"), modules, kept, wall_s, told)


def _be_child(
    work: Callable[[], None],
    place: Path,
    errors: Path,
    writer: int,
    at: int | None,
    by: signal.Signals,
    before: Callable[[], None] | None,
) -> None:
    code = 1
    try:
        told = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(told, stream)
        os.environ["AIRLAB_STORE"] = str(place / "store")
        os.chdir(place)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if before is not None:
            before()
        known = set(sys.modules)
        operations = Operations(place, at, lambda: os.kill(os.getpid(), by))
        operations.watch()

        def watched() -> None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
            work()
            signal.signal(signal.SIGINT, signal.SIG_IGN)

        code = answer("made", watched)
        modules = [m for m in sys.modules if m not in known]
        facts = {"operations": operations.count, "modules": modules, "kept": KEPT}
        with os.fdopen(writer, "w") as pipe:
            json.dump(facts, pipe)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        atexit._run_exitfuncs()
        os._exit(code)


def take_over(done: Attempt) -> None:
    """Import what an attempt imported and keep what it kept, so that no later one has to.

    Raises:
        RuntimeError: this process has threads now.
    """
    KEPT.update(done.kept)
    for name in done.modules:
        with suppress(ImportError):  # some modules are made by others, and import no more by name
            importlib.import_module(name)
    if threading.active_count() > 1:
        raise RuntimeError("a process with threads cannot be forked safely, and an import started some")


def finished(place: Path) -> dict[str, str]:
    """What has a final name, with a hash over all that is in it: artifacts, outputs and tables.

    A record tells when and where an artifact was made as well; all else in it counts.
    """
    found = {}
    for stage in sorted((place / "store").glob("*")):
        for folder in sorted(stage.iterdir()) if stage.is_dir() else ():
            if folder.is_dir() and folder.suffix != ".part":
                found[f"{stage.name}/{folder.name}"] = _digest(folder)
    for path in sorted(place.iterdir()):
        if not path.name.startswith((WRITING, REPLACED)) and path.name not in ("store", "tables"):
            found[path.name] = _digest(path)
    for lock in sorted(place.glob("tables/**/lock.json")):
        if not any(part.startswith(".") for part in lock.relative_to(place).parts):
            found["tables"] = _digest(lock.parent)
    return found


def leftovers(place: Path) -> list[str]:
    """What no finished run leaves: unfinished names."""
    found = [*place.rglob(".*"), *place.rglob("*.part"), *place.rglob("*.partial")]
    return sorted(path.relative_to(place).as_posix() for path in found if ".lease-" not in path.name)


def _digest(path: Path) -> str:
    if path.is_dir():
        members = sorted(member for member in path.rglob("*") if member.is_file())
        rows = [[member.relative_to(path).as_posix(), _digest(member)] for member in members]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    content = path.read_bytes()
    if path.name == "record.json":
        record = json.loads(content)
        same = ("name", "version", "fingerprint", "identity", "inputs", "manifest")
        content = json.dumps({key: record[key] for key in same}).encode()
    return hashlib.sha256(content).hexdigest()
