"""The tests of datatrove's steps, in a process of their own.

datatrove's local executor is told to fork here, and a process whose threads compute must not: the children of
one that has run the rest of the suite wait for ever.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).with_name("datatrove_steps.py")


def test_steps_of_datatrove_in_a_process_without_threads() -> None:
    pytest.importorskip("datatrove")
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(TESTS)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0 and "passed" in told.stdout, told.stdout[-8000:] + told.stderr[-2000:]
