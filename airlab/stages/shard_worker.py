"""One of the processes that measure a stage's shards, seen from inside: shards in, saved shards out.

It is told the next shards through a pipe, and tells how far it is: `begun` with a shard, `advanced` by units,
`saved`, or the user's `mistake`. It ends when the pipe or the process that started it does.
"""

import multiprocessing
import os
import tempfile
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from airlab.errors import UserError
from airlab.lifeline import end_with
from airlab.schema.machine import Machine
from airlab.stages.shard_notes import noted
from airlab.stages.shards import ShardedStage, loaded, measured, write_shard
from airlab.store.durable import disk_trouble, size_of, written
from airlab.store.fingerprint import fingerprint
from airlab.store.stage import Stage, Workdir
from airlab.text.documents import Shard


class WorkerJob(NamedTuple):
    """What a worker is started with."""

    stage: ShardedStage
    inputs: Mapping[str, Path]
    """Folders of the stage's inputs, by fingerprint."""
    part: Path
    """The stage's unfinished folder."""
    machine: Machine
    of_workers: int
    of_shards: int
    number: int
    """Of this worker, from 0."""


def worker_name(machine: Machine, number: int) -> str:
    """What a worker is called, counted from 0."""
    return f"GPU {number}" if machine.device == "cuda" else f"worker {number + 1}"


def run_worker(job: WorkerJob, pipe: Connection) -> None:
    """A worker: measures what it is dealt until the pipe is closed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    end_with(parent)
    try:
        with suppress(EOFError):  # nothing more to do
            _measure_dealt(job, pipe)
    except UserError as mistake:
        pipe.send(("mistake", str(mistake)))
    except Exception as error:
        trouble = disk_trouble(error, job.part, size_of(job.part))
        if trouble is None:
            raise
        pipe.send(("mistake", str(trouble)))


def _measure_dealt(job: WorkerJob, pipe: Connection) -> None:
    _use_own_share(job)
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(1, thread_name_prefix="ahead") as reader,
    ):
        work = Workdir(Path(folder), partial(_input, job.inputs))
        with pq.ParquetFile(job.stage.source(work)) as table:
            measuring = loaded(job.stage, work, job.machine, table)
            dealt: deque[tuple[Shard, Future[list[Any]]]] = deque()

            def read(shard: Shard) -> list[Any]:
                return list(measuring.read(shard))

            while True:
                while not dealt or pipe.poll():
                    shard = Shard(*pipe.recv())
                    dealt.append((shard, reader.submit(read, shard)))
                shard, content = dealt.popleft()
                pipe.send(("begun", None))
                with noted(job.part, shard, job.of_shards, worker_name(job.machine, job.number)):
                    tables = measured(
                        job.stage,
                        measuring,
                        job.machine,
                        shard,
                        content.result(),
                        lambda n: pipe.send(("advanced", n)),
                    )
                    for kind in job.stage.KINDS:
                        write_shard(lambda name: written(job.part / name), kind, shard, tables[kind])
                pipe.send(("saved", None))


def _use_own_share(job: WorkerJob) -> None:
    """This worker's GPU, or its share of the cores."""
    if job.machine.device == "cuda":
        import torch

        torch.cuda.set_device(job.number)
    elif "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(max(1, torch.get_num_threads() // job.of_workers))


def _input(inputs: Mapping[str, Path], stage: Stage) -> Path:
    return inputs[fingerprint(stage)]
