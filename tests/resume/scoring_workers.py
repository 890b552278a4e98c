"""A stage of shards without a model, whose workers are killed, wait or run out of memory at a given shard.

Usage: scoring_workers.py FOLDER PROCESSES measures FOLDER/docs.jsonl in FOLDER/store.
"""

import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from airlab.cli.answer import answer
from airlab.schema.machine import Machine
from airlab.schema.text import Columns
from airlab.stages.import_corpus import ImportCorpus
from airlab.stages.measure_losses import MeasureLosses
from airlab.stages.shards import Measuring, ShardedStage, measure_shards
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store
from airlab.text.documents import Shard, cut_into_shards

ACTS = "SCORING_WORKERS_ACTS"
"""Environment variable: the folder that tells workers what to do, and takes what they did."""


@dataclass(frozen=True)
class MeasureHashes(ShardedStage):
    """Tables as of losses, with numbers out of a hash; does what ACTS says before a shard is saved.

    PyTorch takes longer to import than everything else that happens here.
    """

    VERSION: ClassVar[int] = 1
    KINDS: ClassVar[Mapping[str, pa.Schema]] = MeasureLosses.KINDS
    UNITS: ClassVar[str] = "documents"
    corpus: Stage

    def run(self, work: Workdir, machine: Machine) -> None:
        measure_shards(work, self, machine)

    def source(self, work: Workdir) -> Path:
        return work.input(self.corpus) / "documents.parquet"

    def cut(self, table: pq.FileMetaData, machine: Machine) -> list[Shard]:
        return cut_into_shards(table, machine.documents_per_shard)

    def measuring(self, work: Workdir, machine: Machine, table: pq.ParquetFile) -> Measuring:
        return Measuring(lambda shard: [shard, *map(table.read_row_group, shard.groups)], _measure)


def _measure(content: Sequence[Any], advance: Callable[[float], None]) -> dict[str, pa.Table]:
    shard: Shard = content[0]
    rows = pa.concat_tables(content[1:])
    advance(rows.num_rows - 1)
    columns = {name: rows[name] for name in ("unit_id", "domain")} | {"parent_id": rows["unit_id"]}
    numbers = [len(hashlib.sha256(text.encode()).hexdigest().strip("0")) for text in rows["text"].to_pylist()]
    columns |= {name: numbers for name in MeasureLosses.KINDS["losses"].names if name not in columns}
    losses = pa.table({name: columns[name] for name in MeasureLosses.KINDS["losses"].names})
    folder = Path(os.environ[ACTS])
    log(folder, f"{shard.first} {os.getpid()}")
    act = json.loads((folder / "act.json").read_text())
    if shard.first == act["at"] and shards(folder).count(shard.first) <= act["times"]:
        _ACTS[act["what"]]()
    advance(1)
    return {
        "skipped": MeasureLosses.KINDS["skipped"].empty_table(),
        "losses": losses.cast(MeasureLosses.KINDS["losses"]),
    }


def _kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
    wait_for(Path("never"))


def _interrupt() -> None:
    os.killpg(os.getpgrp(), signal.SIGINT)
    wait_for(Path("never"))


def _run_out() -> None:
    raise MemoryError("no room for 2.00 GiB")


def _fail() -> None:
    raise ZeroDivisionError


_ACTS: dict[str, Callable[[], None]] = {
    "kill": lambda: _kill(os.getpid()),
    "orphan": lambda: _kill(os.getppid()),
    "interrupt": _interrupt,
    "wait": lambda: wait_for(Path(os.environ[ACTS], "go on")),
    "memory": _run_out,
    "fail": _fail,
}


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.02)


def log(folder: Path, line: str) -> None:
    with (folder / "log").open("a") as file:
        file.write(line + "\n")


def shards(folder: Path) -> list[int]:
    """First documents of the shards that were measured, in time."""
    return [int(line.split()[0]) for line in (folder / "log").read_text().splitlines()]


def pids(folder: Path) -> set[int]:
    """The processes that measured them."""
    return {int(line.split()[1]) for line in (folder / "log").read_text().splitlines()}


def hashes(folder: Path) -> MeasureHashes:
    """What is measured of a folder's documents."""
    columns = Columns(text=None, id=None, domain=None, default_domain="all")
    return MeasureHashes(ImportCorpus.of_path(folder / "docs.jsonl", columns))


def main() -> int:
    """As a command does it."""
    folder, processes = Path(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    plan = Plan(Store(folder / "store"), [hashes(folder)])
    return answer("score", lambda: plan.run(Machine(processes=processes)))


if __name__ == "__main__":
    sys.exit(main())
