"""Committed tables follow from the configurations, whatever else is refactored."""

from pathlib import Path

import pytest

from airlab.cli.experiment import published_targets
from airlab.reporting.latex import render_latex
from airlab.reporting.lock import LOCK, read_lock
from airlab.reporting.render import render_markdown
from tests.golden import published_tables

RESULTS = Path(__file__).parents[2] / "results"
TABLES = sorted(path.parent.relative_to(RESULTS).as_posix() for path in RESULTS.rglob(LOCK))


def test_there_are_tables() -> None:
    assert "attention_influence/main/laptop" in TABLES


@pytest.mark.parametrize("table", TABLES)
def test_a_published_tables_artifacts_keep_their_addresses(table: str) -> None:
    name, _, scale = table.rpartition("/")
    assert published_targets(name, scale) == read_lock(RESULTS / table).cells


@pytest.mark.parametrize("name", published_tables.TABLES)
def test_every_form_of_a_published_table_is_of_the_same_numbers(name: str, tmp_path: Path) -> None:
    table = published_tables.published_table(name, tmp_path)
    folder = RESULTS / name
    assert render_markdown(table) == (folder / "table.md").read_text(encoding="utf-8")
    assert render_latex(table) == (folder / "table.tex").read_text(encoding="utf-8")
