"""The table's files, byte for byte. After an intended change, run this file as a program."""

from pathlib import Path

import pytest

from airlab.evaluation.records import Record
from airlab.randomness import generator
from airlab.reporting.render import render_csv, render_markdown
from airlab.reporting.tables import Column, Row, Table, TableSpec, build_table
from tests.golden.csv_cells import assert_same_cells

FOLDER = Path(__file__).parent / "table"


def table() -> Table:
    spec = TableSpec(
        title="Golden table",
        rows=(
            Row("full_pool", "full pool"),
            Row("random", "random"),
            Row("influence", "attention influence"),
        ),
        columns=(
            Column("bits_per_byte_prose", "bits_per_byte", False, "prose, bits per byte"),
            Column("key_retrieval", "acc", True, "key retrieval", chance=1 / 6),
        ),
        seeds=(0, 1),
        resamples=500,
        notes=("4M target, 1M tokens.",),
    )
    records = {row.variant: [] for row in spec.rows}
    for rank, row in enumerate(spec.rows):
        for seed in spec.seeds:
            for item in range(12):
                draw = generator(0, "golden", row.variant, seed, item).normal(size=2)
                for task, metric, value in (
                    ("bits_per_byte_prose", "bits_per_byte", 2 + item / 8 + draw[0] / 16),
                    ("key_retrieval", "acc", float(item % 3 + rank / 2 + draw[1] > 1.5)),
                ):
                    cluster = f"d{item // 2}" if metric == "bits_per_byte" else None
                    records[row.variant].append(
                        Record(task, "1", f"i{item}", cluster, seed, metric, value, metric == "acc")
                    )
    return build_table(spec, records)


@pytest.mark.parametrize(("name", "render"), [("table.md", render_markdown), ("table.csv", render_csv)])
def test_table_is_as_committed(name: str, render) -> None:
    text = render(table())
    golden = (FOLDER / name).read_bytes().decode()
    if name.endswith(".md"):
        assert text == golden
    else:
        assert_same_cells(text, golden)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "table.md").write_text(render_markdown(table()), encoding="utf-8", newline="\n")
    (FOLDER / "table.csv").write_text(render_csv(table()), encoding="utf-8", newline="")
