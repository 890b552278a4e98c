"""Finished shards of a scoring pass inside the stage's folder: the units of resume."""

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from airlab.progress import announce
from airlab.store.stage import Workdir
from airlab.text.documents import Shard


def shard_name(kind: str, shard: Shard) -> str:
    """Names the units it holds, so that a shard of another size is another file."""
    return f"shards/{kind}-{shard.first:012d}-{shard.first + shard.documents - 1:012d}.parquet"


def remove_other_shards(work: Workdir, kinds: Iterable[str], shards: Sequence[Shard]) -> None:
    """Remove what an earlier attempt with other shards left: none of it will be asked for."""
    wanted = {work.path(shard_name(kind, shard)) for shard in shards for kind in kinds}
    others = sorted(path for path in work.path("shards").glob("*") if path not in wanted)
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
