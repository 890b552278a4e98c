"""Many workers for one LossTable: each measures shards of its own, and the stage joins them."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datatrove.pipeline.base import PipelineStep

from airlab.pipelines.inputs import reading, use_own_gpu
from airlab.schema.machine import Machine
from airlab.stages.measure_losses import KINDS, MeasureLosses
from airlab.stages.shards import shard_name
from airlab.store.durable import written
from airlab.store.store import Store
from airlab.text.documents import cut_into_shards
from airlab.text.tokens import tokenized_documents


class MeasureShards(PipelineStep):
    """Task `rank` of `world_size` measures every `world_size`-th shard that is missing.

    The shards are those of `MeasureLosses`, in its unfinished folder; shards are what losses are computed
    in, so any number of workers leaves the same bytes. A shard is there whole or not at all: a worker that
    is killed costs the shard it was at, whether its task is started again or not. When all tasks are done
    (or none of them), the stage itself, `Plan(store, [stage]).run(machine)`, measures what is missing and
    joins the shards::

        LocalPipelineExecutor([MeasureShards(stage, store.root, machine)], tasks=40, workers=8).run()
        Plan(store, [stage]).run(machine)

    The model's, heads' and corpus' stages must be finished before. `machine.documents_per_shard` must be the
    same everywhere. The store must lie where all workers see it.
    """

    name = "measure losses"
    type = "airlab"

    def __init__(self, stage: MeasureLosses, store: Path, machine: Machine) -> None:
        super().__init__()
        self.stage = stage
        self.root = Path(store)
        self.machine = machine

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Any:
        """Measure this task's shards; what earlier steps yield is passed on untouched.

        Raises:
            UserError: an input's stage is not finished, or as `MeasureLosses` does.
        """
        store = Store(self.root)
        if store.find(self.stage) is None:
            self._measure(store, rank, world_size)
        return data

    def _measure(self, store: Store, rank: int, world_size: int) -> None:
        part = store.part(self.stage)
        with reading(store) as work:
            documents = work.input(self.stage.corpus) / "documents.parquet"
            with pq.ParquetFile(documents) as file:
                shards = cut_into_shards(file.metadata, self.machine.documents_per_shard)[rank::world_size]
                missing = [shard for shard in shards if not (part / shard_name("losses", shard)).exists()]
                self.stat_update("shards found", value=len(shards) - len(missing))
                if not missing:
                    return
                use_own_gpu(self.machine, rank)
                lm, _, measure = self.stage.measuring(work, self.machine)
                for shard in missing:
                    with self.track_time("shard"):
                        parts = list(tokenized_documents(file, shard.groups, lm.tokenizer))
                        tables = measure(parts, _silent)
                        for kind in KINDS:  # losses last: they say that the others are there
                            with written(part / shard_name(kind, shard)) as path:
                                pq.write_table(tables[kind].combine_chunks(), path)
                    self.stat_update("shards measured")
                    self.stat_update("documents", value=shard.documents, unit="shard")


def _silent(_: float) -> None:
    """Progress of a worker; datatrove's log and statistics tell it."""
