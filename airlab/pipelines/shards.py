"""Many workers for one LossTable: each measures shards of its own, and the stage joins them."""

from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from typing import Any

import multiprocess
import pyarrow.parquet as pq
from datatrove.pipeline.base import PipelineStep

from airlab.lifeline import end_with
from airlab.pipelines.inputs import reading, use_own_gpu
from airlab.schema.machine import Machine
from airlab.stages.shard_notes import noted
from airlab.stages.shards import SHARDS_AHEAD, ShardedStage, loaded, measured, shard_name, write_shard
from airlab.store.durable import written
from airlab.store.store import Store
from airlab.text.ahead import ahead


class MeasureShards(PipelineStep):
    """Task `rank` of `world_size` measures every `world_size`-th shard that is missing.

    The shards are those of the stage (`MeasureLosses` of documents, `MeasureSteps` of traces), in its
    unfinished folder; shards are what losses are computed in, so any number of workers leaves the same bytes.
    A shard is there whole or not at all: a worker that is killed costs the shard it was at, whether its task
    is started again or not. `airlab status` tells which shards are measured, running and for how long, failed
    and why. When all tasks are done (or none of them), the stage itself,
    `Plan(store, [stage]).run(machine)`, measures what is missing and joins the shards::

        LocalPipelineExecutor([MeasureShards(stage, store.root, machine)], tasks=40, workers=8).run()
        Plan(store, [stage]).run(machine)

    The model's, heads' and corpus' stages must be finished before. `machine.documents_per_shard` must be the
    same everywhere. The store must lie where all workers see it.
    """

    name = "measure losses"
    type = "airlab"

    def __init__(self, stage: ShardedStage, store: Path, machine: Machine) -> None:
        super().__init__()
        self.stage = stage
        self.root = Path(store)
        self.machine = machine

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Any:
        """Measure this task's shards; what earlier steps yield is passed on untouched.

        Raises:
            UserError: an input's stage is not finished, or as the stage does.
        """
        _end_with_executor()
        store = Store(self.root)
        if store.find(self.stage) is None:
            self._measure(store, rank, world_size)
        return data

    def _measure(self, store: Store, rank: int, world_size: int) -> None:
        part = store.part(self.stage)
        with ExitStack() as stack:
            work = stack.enter_context(reading(store))
            table = stack.enter_context(pq.ParquetFile(self.stage.source(work)))
            every = self.stage.cut(table.metadata, self.machine)
            shards = every[rank::world_size]
            missing = [shard for shard in shards if not (part / shard_name("losses", shard)).exists()]
            self.stat_update("shards found", value=len(shards) - len(missing))
            if not missing:
                return
            use_own_gpu(self.machine)
            measuring = loaded(self.stage, work, self.machine, table)
            read = (measuring.read(shard) for shard in missing)
            contents = stack.enter_context(closing(ahead(read, most=SHARDS_AHEAD)))
            for shard, content in zip(missing, contents, strict=True):
                with self.track_time("shard"), noted(part, shard, len(every), f"task {rank} of {world_size}"):
                    tables = measured(self.stage, measuring, self.machine, shard, content, _silent)
                    for kind in self.stage.KINDS:
                        write_shard(lambda name: written(part / name), kind, shard, tables[kind])
                self.stat_update("shards measured")
                self.stat_update(self.stage.UNITS, value=shard.documents, unit="shard")


def _silent(_: float) -> None:
    """Progress of a worker; datatrove's log and statistics tell it, and the notes beside the shards."""


@cache
def _end_with_executor() -> None:
    """One that is started again would measure what a worker of the first is still at."""
    parent = multiprocess.parent_process()
    if parent is not None:  # it is one of several, and not the executor itself
        end_with(parent)
