"""Tokenizing, scoring, selecting, mixing and task building, killed at every fifth file operation."""

import json
import subprocess
import sys
from pathlib import Path


def test_short_stages_leave_the_same_files_wherever_they_are_killed_twice(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("stage_killer.py")), str(tmp_path)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["wrong"] == []
    assert found["points"] >= 20 and found["files"] >= 10
