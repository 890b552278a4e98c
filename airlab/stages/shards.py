"""Finished shards of a scoring pass inside the stage's folder: the units of resume."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from airlab.progress import announce, progress
from airlab.store.stage import Workdir
from airlab.text.ahead import ahead
from airlab.text.documents import Shard

Part = TypeVar("Part")

FOLDER = "shards"

_SHARDS_AHEAD = 2


def measure_shards(
    work: Workdir,
    kinds: Mapping[str, pa.Schema],
    shards: Sequence[Shard],
    units: str,
    read: Callable[[Shard], Iterable[Part]],
    measure: Callable[[Sequence[Part], Callable[[float], None]], Mapping[str, pa.Table]],
) -> None:
    """Measure the shards that are missing, and make each table `<kind>.parquet` out of its shards.

    A thread reads up to two shards ahead of the one that is measured.

    Args:
        kinds: the tables; `losses` comes last, and its shard says that the others are there.
        units: what shards consist of, for the progress.
        read: a shard's content.
        measure: a shard's tables of that content, `skipped` among them; told where to report progress.
    """
    remove_other_shards(work, kinds, shards)
    missing = [shard for shard in shards if not work.has(shard_name("losses", shard))]
    total, rest = (sum(shard.documents for shard in some) for some in (shards, missing))
    with (
        progress("scoring", units, total, before=total - rest) as advance,
        closing(ahead((read(shard) for shard in missing), most=_SHARDS_AHEAD)) as contents,
    ):
        for shard, parts in zip(missing, contents, strict=True):
            tables = measure(parts, advance)
            advance(tables["skipped"].num_rows)
            for kind in kinds:
                write_shard(work, kind, shard, tables[kind])
    for kind, schema in kinds.items():
        merge_shards(work, kind, shards, schema)


def shard_name(kind: str, shard: Shard) -> str:
    """Names the units it holds, so that a shard of another size is another file."""
    return f"{FOLDER}/{kind}-{shard.first:012d}-{shard.first + shard.documents - 1:012d}.parquet"


def units_kept(folder: Path) -> int:
    """How many units are measured in the finished shards below a stage's folder, by their names."""
    ranges = [path.stem.split("-")[1:] for path in (folder / FOLDER).glob("losses-*-*.parquet")]
    return sum(int(last) - int(first) + 1 for first, last in ranges)


def remove_other_shards(work: Workdir, kinds: Iterable[str], shards: Sequence[Shard]) -> None:
    """Remove what an earlier attempt with other shards left: none of it will be asked for."""
    wanted = {work.path(shard_name(kind, shard)) for shard in shards for kind in kinds}
    others = sorted(path for path in work.path(FOLDER).glob("*") if path not in wanted)
    if any(path.name.startswith("losses") for path in others):
        announce("scoring starts again: what was done was saved in shards of another size")
    for path in others:
        path.unlink()


def write_shard(work: Workdir, kind: str, shard: Shard, table: pa.Table) -> None:
    """Save what was found of one shard."""
    with work.writing(shard_name(kind, shard)) as path:
        pq.write_table(table.combine_chunks(), path)


def merge_shards(work: Workdir, kind: str, shards: Sequence[Shard], schema: pa.Schema) -> None:
    """Make the whole table `<kind>.parquet` out of its shards, in order."""
    with work.writing(f"{kind}.parquet") as path, pq.ParquetWriter(path, schema) as writer:
        for shard in shards:
            writer.write_table(pq.read_table(work.path(shard_name(kind, shard))))
