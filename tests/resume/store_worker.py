"""A process that makes one small artifact and dies where it is told to.

Usage: python store_worker.py STORE LOG [MOMENT]. Every attempt and every shard adds a line to LOG.
"""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from airlab.schema.machine import Machine
from airlab.store import durable
from airlab.store import store as store_module
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store

SHARDS = 4
MOMENT = sys.argv[3] if len(sys.argv) > 3 else ""

# Jobs that a shell starts in the background ignore Ctrl-C and hand that on; here it is what is tested.
signal.signal(signal.SIGINT, signal.default_int_handler)


def log(line: str) -> None:
    """Append one line at once, so that it survives the kill."""
    with Path(sys.argv[2]).open("a") as stream:
        stream.write(line + "\n")


def reach(moment: str) -> None:
    """Die here, without any clean-up, if this is the moment; or sit still until interrupted."""
    if moment == MOMENT:
        os.kill(os.getpid(), signal.SIGKILL)
    if f"wait {moment}" == MOMENT:
        log("waiting")
        time.sleep(60)


@dataclass(frozen=True)
class CountShards(Stage):
    """Writes four shards and then a summary."""

    VERSION: ClassVar[int] = 1
    seed: int = 7

    def run(self, work: Workdir, machine: Machine) -> None:
        """Write what is missing."""
        log("attempt")
        reach("before a shard")
        for shard in range(SHARDS):
            name = f"shards/{shard:03d}.txt"
            if work.has(name):
                continue
            with work.writing(name) as temporary:
                temporary.write_text(f"{self.seed * shard}\n" * 500)
                if shard == 2:
                    reach("inside a shard")
                temporary.write_text(f"{self.seed * shard}\n" * 1000)
            log(f"shard {shard}")
            work.note(**{f"lines_{shard}": 1000})
            if shard == 1:
                reach("between shards")
        with work.writing("summary.txt") as temporary:
            temporary.write_text("".join(work.path(f"shards/{i:03d}.txt").read_text() for i in range(SHARDS)))
        if MOMENT == "slow":
            time.sleep(1.5)


def main() -> None:
    """Arm the moments that lie in the store itself, then run the plan."""
    make_record, rename, sync = store_module.make_record, Path.rename, durable.sync

    def at_record(*arguments: Any) -> Any:
        reach("before the record")
        return make_record(*arguments)

    def at_rename(path: Path, target: Path) -> Path:
        reach("before the rename")
        renamed = rename(path, target)
        reach("after the rename")
        return renamed

    def at_sync(path: Path) -> None:
        if path.name == durable.WRITING + "record.json":
            reach("inside the record")
        sync(path)

    store_module.make_record = at_record
    Path.rename = at_rename  # type: ignore[method-assign]
    durable.sync = at_sync
    store = Store(Path(sys.argv[1]))
    Plan(store, [CountShards()]).run(Machine())
    print(store.find(CountShards()))


if __name__ == "__main__":
    main()
