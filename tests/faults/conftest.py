"""The ledger begins empty and ends with how the tests ended, so that no page is written of half a suite."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.ledger import FULL

_outcomes: Counter[str] = Counter()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Forget what an earlier run counted."""
    if path := os.environ.get("AIRLAB_FAULTS_LEDGER"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("", encoding="utf-8")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test passes once, in its call, and fails or is skipped wherever it does."""
    if report.when == "call" or report.outcome != "passed":
        _outcomes[report.outcome] += 1


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Say how it ended."""
    if path := os.environ.get("AIRLAB_FAULTS_LEDGER"):
        end = {name: _outcomes[name] for name in ("passed", "failed", "skipped")}
        line = {"form": "full" if FULL else "short", "status": int(exitstatus), **end}
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
