"""A command in a process of its own, with a stand-in for the model's forward pass, and what memory it took.

`python -m tests.faults.load.stand_in MODEL VERB key=value …` prints the highest resident memory in KiB; MODEL
is `none` for the stand-in, `real` for the model that the command is given.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from airlab.cli.main import dispatch


def measure(
    lm: Any,
    reference: Any,
    tokens: Sequence[np.ndarray],
    *,
    advance: Callable[[float], None] = lambda _: None,
    **_: object,
) -> list[Any]:
    """Losses that depend on the tokens, without a model."""
    from airlab.scoring.losses import LossSums

    found = []
    for ids in tokens:
        base = float(1 + ids.astype(np.int64) @ (np.arange(len(ids)) % 7 + 1) % 1009)
        found.append(LossSums(len(ids) - 1, base, base * (1 + float(ids[0]) / 100), base / 2))
    advance(len(tokens))
    return found


def peak_kib() -> int:
    """The most that was ever resident in this process, not in those it came from."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise RuntimeError("the system does not say how much memory was resident")


if __name__ == "__main__":
    if sys.argv[1] == "none":
        from airlab.scoring import losses

        losses.measure_documents = measure
    code = dispatch(sys.argv[2:])
    print(peak_kib())
    sys.exit(code)
