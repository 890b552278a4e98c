"""Comparing committed CSV files."""

import pytest


def assert_same_cells(text: str, golden: str) -> None:
    """The same text and the same numbers; as CSV is unrounded, last digits belong to the CPU's arithmetic."""
    for line, expected in zip(text.splitlines(), golden.splitlines(), strict=True):
        for cell, other in zip(line.split(","), expected.split(","), strict=True):
            try:
                assert float(cell) == pytest.approx(float(other), rel=1e-9, abs=1e-12)
            except ValueError:
                assert cell == other
