"""Progress with rate and time left on anything long; silence on anything short.

On a terminal a bar (rich, on stderr), elsewhere a plain line about every 15 seconds. Nothing at all is
printed by work that takes less than three seconds.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.markup import escape as markup
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.status import Status

from airlab.terminal import visible

Item = TypeVar("Item")

_QUIET_S = 3.0
_LINE_EVERY_S = 15.0
_DRAW_EVERY_S = 0.1
_TICK_S = 1.0

_bars: Progress | None = None  # one live display for all meters: two would overwrite each other


def announce(text: str) -> None:
    """One line to the person watching, above any bar; on stderr, so that results can be piped."""
    text = visible(text)
    if _bars is not None:
        _bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
    else:
        print(text, file=sys.stderr, flush=True)


def track(
    items: Iterable[Item],
    *,
    label: str,
    unit: str,
    total: float | None = None,
    amount: Callable[[Item], float] | None = None,
) -> Iterator[Item]:
    """Yield the items, counting each as done when the next one is asked for.

    Args:
        items: what to go through; its length is the total when neither `total` nor `amount` is given.
        label: what is being done, for the person watching.
        unit: what is counted, in the plural.
        total: the sum of all amounts, in `unit`; None if unknown.
        amount: how many units an item is; 1 if not given.
    """
    if total is None and amount is None and isinstance(items, Sized):
        total = len(items)
    with progress(label, unit, total) as advance:
        for item in items:
            yield item
            advance(1 if amount is None else amount(item))


@contextmanager
def progress(
    label: str, unit: str, total: float | None = None, *, before: float = 0.0
) -> Iterator[Callable[[float], None]]:
    """Hand out ``advance(n)`` for work that is not a loop over items.

    Args:
        before: the part of `total` that an earlier run did; it counts as done, but not in the rate.
    """
    meter = _Meter(label, unit, total, before)
    try:
        yield meter.advance
    finally:
        meter.close()


@contextmanager
def waiting(label: str) -> Iterator[None]:
    """Say from time to time that something goes on that a library does in one piece, and for how long."""
    clock = _Clock(label)
    ended = threading.Event()
    thread = threading.Thread(target=lambda: _tick(clock, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        clock.close()


def _tick(clock: "_Clock", ended: threading.Event) -> None:
    while not ended.wait(_TICK_S):
        clock.tick()


class _Clock:
    """Counts nothing but the time."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.start = self.last_line = time.monotonic()
        self.shown: Status | None = None

    def tick(self) -> None:
        now = time.monotonic()
        if now - self.start < _QUIET_S:
            return
        text = f"{self.label}: {duration(now - self.start)} so far"
        if sys.stderr.isatty():
            if self.shown is None and _bars is None:  # under a bar that already says what goes on, nothing
                self.shown = Console(stderr=True).status(markup(text))
                self.shown.start()
            elif self.shown is not None:
                self.shown.update(markup(text))
        elif now - self.last_line >= _LINE_EVERY_S:
            self.last_line = now
            announce(text)

    def close(self) -> None:
        if self.shown is not None:
            self.shown.stop()


class _Meter:
    """Counts, and speaks when it is time to."""

    def __init__(self, label: str, unit: str, total: float | None, before: float) -> None:
        self.label, self.unit, self.total, self.before = label, unit, total, before
        self.done = before
        self.start = time.monotonic()
        self.last_line = self.last_drawn = self.start
        self.first: tuple[float, float] | None = None
        """When the first part was done, and how much was done then."""
        self.task: TaskID | None = None

    def advance(self, n: float = 1) -> None:
        self.done += n
        now = time.monotonic()
        if self.first is None:
            self.first = now, self.done
        if now - self.start < _QUIET_S:
            return
        if sys.stderr.isatty():
            if now - self.last_drawn >= _DRAW_EVERY_S:  # drawing takes longer than scoring a document
                self.last_drawn = now
                self._draw()
        elif now - self.last_line >= _LINE_EVERY_S:
            self.last_line = now
            announce(f"{self.label}: {self.state()}")

    def state(self) -> str:
        """Such as ``1,200/4,000 documents (30%), 150/s, 19 s left``.

        The first part pays for what is done once: files are opened, kernels compiled, caches filled. So it
        counts neither in the rate, once there is a second, nor in the time left, which waits for that.
        """
        since, at = self.start, self.before
        is_steady = self.first is not None and self.done > self.first[1] and time.monotonic() > self.first[0]
        if self.first is not None and is_steady:
            since, at = self.first
        rate = (self.done - at) / max(time.monotonic() - since, 1e-9)
        if not self.total:
            return f"{self.done:,.0f} {self.unit}, {_rate(rate)}"
        text = f"{self.done:,.0f}/{self.total:,.0f} {self.unit} ({self.done / self.total:.0%}), {_rate(rate)}"
        left = max(self.total - self.done, 0.0)
        return f"{text}, {duration(left / rate)} left" if left and rate and is_steady else text

    def _draw(self) -> None:
        global _bars
        if _bars is None:
            columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}")
            _bars = Progress(*columns, console=Console(stderr=True), transient=True)
            _bars.start()
        if self.task is None:
            self.task = _bars.add_task(self.label, total=self.total, state="")
        _bars.update(self.task, completed=self.done, state=self.state())

    def close(self) -> None:
        global _bars
        if self.task is not None and _bars is not None:
            _bars.remove_task(self.task)
            if not _bars.tasks:
                _bars.stop()
                _bars = None
        elapsed = time.monotonic() - self.start
        if elapsed >= _QUIET_S:
            done = self.done - self.before
            announce(
                f"{self.label}: {done:,.0f} {self.unit} in {duration(elapsed)} ({_rate(done / elapsed)})"
            )


def duration(seconds: float) -> str:
    """Seconds for people: ``0.4 s``, ``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.2g}/s"
