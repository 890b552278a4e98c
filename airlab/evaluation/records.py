"""EvalRecords: one row a (item, metric) of one checkpoint; every interval is computed from these."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),
        pa.field("task_version", pa.string(), nullable=False),
        pa.field("item_hash", pa.string(), nullable=False),
        pa.field("cluster", pa.string()),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("higher_is_better", pa.bool_(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Record:
    """The value of one metric on one item of one task, for a checkpoint trained with `seed`."""

    task: str
    task_version: str
    item_hash: str
    cluster: str | None
    seed: int
    metric: str
    value: float
    higher_is_better: bool


def write_records(path: Path, records: Sequence[Record], versions: Mapping[str, str]) -> None:
    """Write records (in the given order); `versions` of the software goes into the file's metadata."""
    columns = list(zip(*map(astuple, records), strict=True)) or [()] * len(SCHEMA)
    table = pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], SCHEMA
    )
    pq.write_table(
        table.replace_schema_metadata({f"version:{k}": v for k, v in sorted(versions.items())}), path
    )


def read_records(path: Path) -> list[Record]:
    """The records of a file."""
    return [Record(**row) for row in pq.read_table(path, schema=SCHEMA).to_pylist()]
