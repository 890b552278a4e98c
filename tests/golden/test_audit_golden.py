"""The audit's files on planted scores. After an intended change, run this file as a program."""

from pathlib import Path

import numpy as np
import pytest

from airlab.reporting.audit import AuditTable, audit_page
from airlab.reporting.pages import Page, render_csv, render_page, write_page
from airlab.schema.selection import Selecting
from airlab.selection.audit import audit
from tests.golden.csv_cells import assert_same_cells

FOLDER = Path(__file__).parent / "audit"
UNITS = 60
RESAMPLES = 20


def page() -> Page:
    """Influence is long texts first, its opposite the other end, `=flat` says nothing."""
    draw = np.random.Generator(np.random.PCG64(0))
    length, repetition, noise = draw.permutation(UNITS), draw.permutation(UNITS), draw.permutation(UNITS)
    influence = (2 * length + noise).astype(np.float64)
    scores = {
        "attention_influence": influence,
        "influence_low": -influence,
        "=flat": np.zeros(UNITS),
    }
    confounds = {"length": length.astype(np.float64), "repetition": repetition.astype(np.float64)}
    found = audit(
        np.array([f"u{i:02d}" for i in range(UNITS)], dtype=object),
        np.array(["code" if i % 3 else "prose" for i in range(UNITS)], dtype=object),
        10 + length.astype(np.int64),
        scores,
        confounds,
        Selecting(share=0.2),
        RESAMPLES,
    )
    table = AuditTable("Golden audit", found, "attention_influence", RESAMPLES, ("Drawn with seed 0.",))
    return audit_page(table)


@pytest.mark.parametrize(("name", "render"), [("audit.md", render_page), ("audit.csv", render_csv)])
def test_audit_is_as_committed(name: str, render) -> None:
    text = render(page())
    golden = (FOLDER / name).read_bytes().decode()
    if name.endswith(".md"):
        assert text == golden
    else:
        assert_same_cells(text, golden)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    write_page(FOLDER, page())
