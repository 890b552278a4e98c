"""Committed tables follow from the configurations, whatever else is refactored."""

from pathlib import Path

import pytest

from airlab.cli.experiment import published_targets
from airlab.reporting.lock import LOCK, read_lock

RESULTS = Path(__file__).parents[2] / "results"
TABLES = sorted(path.parent.relative_to(RESULTS).as_posix() for path in RESULTS.rglob(LOCK))


def test_there_are_tables() -> None:
    assert "attention_influence/main/laptop" in TABLES


@pytest.mark.parametrize("table", TABLES)
def test_a_published_tables_artifacts_keep_their_addresses(table: str) -> None:
    name, _, scale = table.rpartition("/")
    assert published_targets(name, scale) == read_lock(RESULTS / table).cells
