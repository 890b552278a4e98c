"""A tokenizing process that kills itself inside of its third shard, unless it did so before."""

import os
import signal
from pathlib import Path
from typing import Any

from airlab.stages import tokenizing_worker

write_shard, begun = tokenizing_worker.write_shard, 0


def dying(*arguments: Any) -> Any:
    """Write the shard, and die before it is whole."""
    global begun
    begun += 1
    found = write_shard(*arguments)
    mark = Path(os.environ["DIES_AFTER"])
    if begun == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return found


tokenizing_worker.write_shard = dying

if __name__ == "__main__":
    tokenizing_worker.main()
