"""What one host runs: torchrun, which starts its processes and is not heard when they fail.

Usage: python -m airlab.training.host FOLDER HOSTS PROCESSES [ADDRESS PORT [RANK]]. A host that is not told
its rank among the hosts has it from Slurm. What went wrong is told by the processes themselves.
"""

import os
import sys

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run


def main(folder: str, hosts: str, processes: str, address: str = "", port: str = "", rank: str = "") -> int:
    """Start this host's processes and wait for them; returns what this one is to end with."""
    meeting = ["--standalone"]
    if hosts != "1":
        meeting = ["--nnodes", hosts, "--node-rank", rank or os.environ["SLURM_PROCID"]]
        meeting += ["--master-addr", address, "--master-port", port]
    try:
        run(parse_args([*meeting, "--nproc-per-node", processes, "-m", "airlab.training.worker", folder]))
    except ChildFailedError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
