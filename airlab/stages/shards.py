"""Finished shards of a scoring pass inside the stage's folder: the units of resume."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from airlab.errors import UserError
from airlab.progress import announce, progress
from airlab.schema.machine import Machine
from airlab.stages.shard_notes import NOTES
from airlab.store import durable
from airlab.store.stage import Stage, Workdir
from airlab.text.ahead import ahead
from airlab.text.documents import Shard

FOLDER = "shards"

SHARDS_AHEAD = 2
"""Read before their turn by whoever measures."""


class Measuring(NamedTuple):
    """What a process that measures shards has loaded, once for all of them."""

    read: Callable[[Shard], Iterable[Any]]
    """A shard's content; not on the way of whoever measures."""
    measure: Callable[[Sequence[Any], Callable[[float], None]], Mapping[str, pa.Table]]
    """A shard's tables of that content, `skipped` among them; told where to report progress."""


@dataclass(frozen=True)
class ShardedStage(Stage, ABC):
    """A stage whose tables are made of shards, which any number of processes may measure.

    Shards are what losses are computed in, so their number changes no byte.
    """

    KINDS: ClassVar[Mapping[str, pa.Schema]]
    """The tables; `losses` comes last, and its shard says that the others are there."""
    UNITS: ClassVar[str]
    """What shards consist of, in the plural."""

    @abstractmethod
    def source(self, work: Workdir) -> Path:
        """The table whose row groups the shards are."""

    @abstractmethod
    def cut(self, table: pq.FileMetaData, machine: Machine) -> list[Shard]:
        """All shards of that table."""

    @abstractmethod
    def measuring(self, work: Workdir, machine: Machine, table: pq.ParquetFile) -> Measuring:
        """Load what measures.

        Raises:
            UserError: what was asked for cannot be measured.
        """


def measure_shards(work: Workdir, stage: ShardedStage, machine: Machine) -> None:
    """Measure the shards that are missing, and make each table `<kind>.parquet` out of its shards.

    In `machine.processes` processes, but no more than there are shards to measure.

    Raises:
        UserError: as the stage's `measuring` does, or because the machine cannot do it.
    """
    from airlab.models.device import use_device
    from airlab.stages.shard_workers import measure_in_workers, workers_for

    use_device(machine)  # before anything is removed for a machine that is not there
    source = stage.source(work)
    shards = stage.cut(pq.read_metadata(source), machine)
    remove_other_shards(work, stage.KINDS, shards)
    missing = [shard for shard in shards if not work.has(shard_name("losses", shard))]
    total, rest = (sum(shard.documents for shard in some) for some in (shards, missing))
    workers = workers_for(machine, missing)
    with progress("scoring", stage.UNITS, total, before=total - rest) as advance:
        if workers > 1:
            measure_in_workers(work, stage, machine, shards, missing, workers, advance)
        elif missing:
            _measure_here(work, stage, machine, source, missing, advance)
    for kind, schema in stage.KINDS.items():
        merge_shards(work, kind, shards, schema)


def _measure_here(
    work: Workdir,
    stage: ShardedStage,
    machine: Machine,
    source: Path,
    missing: Sequence[Shard],
    advance: Callable[[float], None],
) -> None:
    """In this process; a thread reads ahead of the shard that is measured."""
    with pq.ParquetFile(source) as table:
        # Refuses what cannot be before the first unit is read.
        measuring = loaded(stage, work, machine, table)
        read = (measuring.read(shard) for shard in missing)
        with closing(ahead(read, most=SHARDS_AHEAD)) as contents:
            for shard, parts in zip(missing, contents, strict=True):
                tables = measured(stage, measuring, machine, shard, parts, advance)
                for kind in stage.KINDS:
                    write_shard(work.writing, kind, shard, tables[kind])


def loaded(stage: ShardedStage, work: Workdir, machine: Machine, table: pq.ParquetFile) -> Measuring:
    """What measures the stage's shards.

    Raises:
        UserError: as `ShardedStage.measuring` does, or because the model does not fit into memory.
    """
    try:
        return stage.measuring(work, machine, table)
    except Exception as error:
        from airlab.models.device import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"the model does not fit into the memory of this {machine.device}: take a machine with more, "
            "scoring.precision=bfloat16 if it was float32, or fewer machine.processes if they share it."
        ) from error


def measured(
    stage: ShardedStage,
    measuring: Measuring,
    machine: Machine,
    shard: Shard,
    parts: Sequence[Any],
    advance: Callable[[float], None],
) -> Mapping[str, pa.Table]:
    """A shard's tables of its content.

    Raises:
        UserError: as measuring does, or because a forward pass does not fit into memory.
    """
    try:
        tables = measuring.measure(parts, advance)
    except Exception as error:
        from airlab.models.device import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"out of memory while {told(stage, shard)} were scored: lower machine.tokens_per_batch (it is "
            f"{machine.tokens_per_batch}) and run the same command again, it continues from what is finished."
        ) from error
    advance(tables["skipped"].num_rows)
    return tables


def told(stage: ShardedStage, shard: Shard) -> str:
    """A shard in words, such as `documents 256 to 511`; units are counted from 0."""
    return f"{stage.UNITS} {shard.first:,} to {shard.first + shard.documents - 1:,}"


def shard_name(kind: str, shard: Shard) -> str:
    """Names the units it holds, so that a shard of another size is another file."""
    return f"{FOLDER}/{kind}-{shard.first:012d}-{shard.first + shard.documents - 1:012d}.parquet"


def shards_kept(folder: Path) -> dict[int, int]:
    """The finished shards below a stage's folder, by their names: number of the first unit → units."""
    ranges = [path.stem.split("-")[1:] for path in (folder / FOLDER).glob("losses-*-*.parquet")]
    return {int(first): int(last) - int(first) + 1 for first, last in ranges}


def remove_other_shards(work: Workdir, kinds: Iterable[str], shards: Sequence[Shard]) -> None:
    """Remove what an earlier attempt with other shards left: none of it will be asked for.

    Notes on who measured what go too: whoever wrote them is done.
    """
    durable.remove(work.path(NOTES))
    wanted = {work.path(shard_name(kind, shard)) for shard in shards for kind in kinds}
    others = sorted(path for path in work.path(FOLDER).glob("*") if path not in wanted)
    if any(path.name.startswith("losses") for path in others):
        announce("scoring starts again: what was done was saved in shards of another size")
    for path in others:
        path.unlink()


def write_shard(
    writing: Callable[[str], AbstractContextManager[Path]], kind: str, shard: Shard, table: pa.Table
) -> None:
    """Save what was found of one shard.

    Args:
        writing: of a name, a path that becomes it when all went well.
    """
    with writing(shard_name(kind, shard)) as path:
        pq.write_table(table.combine_chunks(), path)


def merge_shards(work: Workdir, kind: str, shards: Sequence[Shard], schema: pa.Schema) -> None:
    """Make the whole table `<kind>.parquet` out of its shards, in order."""
    with work.writing(f"{kind}.parquet") as path, pq.ParquetWriter(path, schema) as writer:
        for shard in shards:
            writer.write_table(pq.read_table(work.path(shard_name(kind, shard))))
