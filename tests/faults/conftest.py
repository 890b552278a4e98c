"""A session tells the ledger which folders it runs whole and how their tests end: no page of half a suite."""

import json
import os
import uuid
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tests.faults.ledger import FULL, code_digest, write

HERE = Path(__file__).parent
FOLDER = "tests/faults/"
_outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
_deselected: list[pytest.Item] = []


def pytest_sessionstart(session: pytest.Session) -> None:
    """Forget what was counted of other code, or of all if all is run, and say what is run of this."""
    if path := os.environ.get("AIRLAB_FAULTS_LEDGER"):
        os.environ["AIRLAB_FAULTS_SESSION"] = uuid.uuid4().hex
        code, ledger = code_digest(), Path(path)
        ledger.parent.mkdir(parents=True, exist_ok=True)
        before = ledger.read_text(encoding="utf-8").splitlines() if ledger.exists() else []
        if HERE in _asked(session) or any(json.loads(line).get("code", code) != code for line in before):
            ledger.unlink(missing_ok=True)
        write({"form": "full" if FULL else "short", "code": code})


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Some tests of a folder are not run, by their names or marks."""
    _deselected.extend(items)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test passes once, in its call, and fails or is skipped wherever it does."""
    if report.nodeid.startswith(FOLDER) and (report.when == "call" or report.outcome != "passed"):
        _outcomes[_area(report.nodeid)][report.outcome] += 1


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Say how it ended."""
    asked = _asked(session)
    whole = not (_deselected or session.config.option.ignore or session.config.option.ignore_glob)
    areas = {
        area: {name: outcomes[name] for name in ("passed", "failed", "skipped")}
        | {"whole": whole and any(asked_for in (HERE, HERE / area) for asked_for in asked)}
        for area, outcomes in _outcomes.items()
    }
    write({"status": int(exitstatus), "areas": areas})


def _asked(session: pytest.Session) -> list[Path]:
    return [Path(argument).resolve() for argument in session.config.args]


def _area(test: str) -> str:
    """The folder of a test, "" for those in none."""
    area, inside, _ = test.removeprefix(FOLDER).partition("::")[0].partition("/")
    return area if inside else ""
