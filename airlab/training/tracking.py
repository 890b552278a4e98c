"""Training curves in TensorBoard, trackio, wandb and others, through accelerate's trackers.

The record of a run is its `curves.jsonl`. A tracker shows the same numbers and is no part of any result;
TensorBoard shows float32, since its fast loader leaves out what is written in float64. A run that is
continued goes on in its trackers where its record does: TensorBoard's files are written anew from the record,
and of the others it is kept which rows they were handed.
"""

import importlib.util
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airlab.errors import UserError
from airlab.progress import announce
from airlab.schema.machine import Machine

Row = Mapping[str, float]
"""A line of `curves.jsonl`."""

HANDED = "tracking.json"
"""Beside the checkpoint until a run is over: how many rows trackers other than TensorBoard were handed."""

_PROJECT = "airlab"
_TENSORBOARD = "tensorboard"
_EVENTS = "events.out.tfevents.*"


def check_trackers(machine: Machine) -> None:
    """Raises UserError when a tracker is named that is not installed; nothing is imported."""
    for name in _wanted(machine):
        if not _is_installed(name):
            package = name.replace("_", "-")
            raise UserError(
                f"machine.trackers names {name}, which is not installed: pip install {package}, or leave it "
                "out."
            )


@contextmanager
def tracked(
    machine: Machine, folder: Path | None, output: Path, so_far: Iterable[Row]
) -> Iterator[Callable[[Row], None]]:
    """Hand out what shows a row in every tracker. For the process that writes files.

    Args:
        folder: of this run, for the trackers that keep files; with None nothing is tracked.
        output: where the run's checkpoint is.
        so_far: the rows of an earlier attempt that stay.

    Raises:
        UserError: a tracker that was named cannot start.
    """
    names = _wanted(machine)
    if folder is None or not names:
        yield _nowhere
        return
    trackers = _Trackers(output / HANDED)
    try:
        for name in names:
            trackers.start(name, folder, asked_for=machine.trackers != "auto")
        for row in so_far:
            trackers.show(row)
        yield trackers.show
    finally:
        trackers.finish()


class _Trackers:
    """Those that work; one that fails is told of and left out: a curve that nobody sees costs no training."""

    def __init__(self, handed: Path) -> None:
        self._path = handed
        earlier = json.loads(handed.read_text()) if handed.exists() else {}
        self._run: str = earlier.get("run", uuid.uuid4().hex)
        self._handed: int = earlier.get("rows", 0)
        self._open: dict[str, Any] = {}

    def start(self, name: str, folder: Path, *, asked_for: bool) -> None:
        try:
            self._open[name] = _start(name, folder, self._run)
        except Exception as error:
            if asked_for:
                raise UserError(
                    f"the tracker {name} does not start ({_first_line(error)}); mend that, or take it out of "
                    "machine.trackers."
                ) from error
            self._leave_out(name, error)

    def show(self, row: Row) -> None:
        step = int(row["step"])
        values = {key: value for key, value in row.items() if key != "step"}
        is_new = step >= self._handed
        for name, tracker in list(self._open.items()):
            if is_new or name == _TENSORBOARD:
                try:
                    tracker.log(values, step=step)
                except Exception as error:
                    self._leave_out(name, error)
        if is_new and self._open.keys() - {_TENSORBOARD}:
            self._handed = step + 1
            partial = self._path.with_suffix(".partial")
            partial.write_text(json.dumps({"run": self._run, "rows": self._handed}))
            partial.replace(self._path)

    def finish(self) -> None:
        for name, tracker in list(self._open.items()):
            try:
                tracker.finish()
            except Exception as error:
                self._leave_out(name, error)

    def _leave_out(self, name: str, error: Exception) -> None:
        self._open.pop(name, None)
        announce(
            f"the tracker {name} failed ({_first_line(error)}) and is left out from here; training goes on, "
            "and curves.jsonl holds everything."
        )


def _start(name: str, folder: Path, run: str) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    kind = LOGGER_TYPE_TO_CLASS[name]
    if name == _TENSORBOARD:
        for path in folder.glob(_EVENTS):
            path.unlink()
        tracker = kind(folder.name, str(folder.parent))
    else:
        # The run of an earlier attempt is continued where a tracker can do that; with others each attempt has
        # a run of its own, that begins where the one before ended.
        again: dict[str, dict[str, str]] = {
            "wandb": {"id": run, "resume": "allow", "name": folder.name, "dir": str(folder)},
            "trackio": {"name": f"{folder.name}-{run[:8]}", "resume": "allow"},
        }
        folder.mkdir(parents=True, exist_ok=True)
        where = [str(folder)] if kind.requires_logging_directory else []
        tracker = kind(_PROJECT, *where, **again.get(name, {}))
    tracker.start()
    return tracker


def _wanted(machine: Machine) -> tuple[str, ...]:
    if machine.trackers == "auto":
        return (_TENSORBOARD,) if _is_installed(_TENSORBOARD) else ()
    return machine.trackers


def _is_installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__


def _nowhere(_: Row) -> None:
    """Where there is no tracker."""
