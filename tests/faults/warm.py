"""Starting the suite's programs: processes that import everything once, start no threads, and fork."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

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
