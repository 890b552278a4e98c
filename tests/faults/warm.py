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


def shared(program: Callable[[], "subprocess.CompletedProcess[str]"]) -> list[Any]:
    """What a program prints that shares its work with others (see `claimed`): in the full form with one."""
    number = 2 if FULL else 1
    with ThreadPoolExecutor(number) as pool:
        ended = [pool.submit(program) for _ in range(number)]
        return [each for one in ended for each in lines(one.result())]


def claimed(folder: Path) -> bool:
    """Make a folder and return True, or False where another process was first: the work is that one's."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True
