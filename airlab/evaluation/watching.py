"""How far an evaluation is, told from inside the harness. Imported only in the worker process.

The harness' own bars are for its own terminal, and begin anew with every batch of a rolling likelihood.
Counted here are rows of forward passes, whoever batches them.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Tell = Callable[[dict[str, Any]], None]
"""Takes `phase` (a number), `label`, `unit`, `done` and `total` (null for unknown), JSON-ready."""

_TELL_EVERY_S = 0.5

_PHASES = {
    "loglikelihood": ("evaluating", "answers"),
    "loglikelihood_rolling": ("evaluating", "windows"),
    "generate_until": ("evaluating", "tokens"),
}
"""What lm-eval asks of a model: its method, and what a row of a forward pass is then."""


def silent(_: dict[str, Any]) -> None:
    """For whoever watches nothing."""


@contextmanager
def watched(model: Any, tell: Tell) -> Iterator[None]:
    """Tell of a harness model's work while the block runs; nothing that it computes changes."""
    counter = _Counter(tell)
    hook = model.model.register_forward_pre_hook(counter.count, with_kwargs=True)
    for method, (label, unit) in _PHASES.items():
        setattr(model, method, counter.phase(getattr(model, method), label, unit))
    try:
        yield
    finally:
        hook.remove()
        for method in _PHASES:
            delattr(model, method)


class _Counter:
    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._phases = 0
        self._now: dict[str, Any] = {}
        self._last = 0.0

    def phase(self, ask: Callable[..., Any], label: str, unit: str) -> Callable[..., Any]:
        """A method of the model that begins a phase; only answers are as many as they are asked for."""

        def begin(requests: list[Any], *rest: Any, **more: Any) -> Any:
            self._phases += 1
            total = len(requests) if unit == "answers" else None
            self._now = {
                "phase": self._phases,
                "label": label,
                "unit": unit,
                "done": 0,
                "total": total,
            }
            return ask(requests, *rest, **more)

        return begin

    def count(self, _: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Before a forward pass."""
        if not self._now:
            return
        ids = named["input_ids"] if "input_ids" in named else arguments[0]
        self._now["done"] += len(ids)
        if time.monotonic() - self._last >= _TELL_EVERY_S:
            self._last = time.monotonic()
            self._tell(dict(self._now))
