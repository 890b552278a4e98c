"""Starting the suite's programs: processes that import everything once, start no threads, and fork."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.faults.ledger import FULL

ROOT = Path(__file__).parents[2]


def started(
    module: str, *arguments: str, through: Sequence[str] = (), **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run a module to its end; `through` is a command that starts it."""
    with tempfile.TemporaryDirectory() as cache:
        settings = {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "TQDM_DISABLE": "1",
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HF_DATASETS_CACHE": cache,
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            **environment,
        }
        return subprocess.run(
            [*through, sys.executable, "-m", module, *arguments],
            cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True, check=False,
        )  # fmt: skip


def lines(done: "subprocess.CompletedProcess[str]") -> list[Any]:
    """The JSON lines that a program printed; it must have ended well."""
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def in_halves(work: Callable[[list[str]], list[Any]], names: list[str]) -> list[Any]:
    """What `work` says of the names: in the full form two at a time, since importing is little of it."""
    halves = [names[::2], names[1::2]] if FULL else [names]
    with ThreadPoolExecutor(len(halves)) as pool:
        return [each for some in pool.map(work, halves) for each in some]
