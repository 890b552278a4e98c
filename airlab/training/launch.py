"""Starting a training run in this process or in several."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import airlab
from airlab.errors import UserError
from airlab.lifeline import lifeline
from airlab.training.builds import refuse_abandoned_builds
from airlab.training.worker import FACTS, USER_ERROR, AnyJob


def launch(job: AnyJob) -> dict[str, object]:
    """Run the job as its machine asks and return its facts.

    One process without DeepSpeed runs right here; anything else is started by torchrun. Raises
    UserError for the user's mistakes and what `refuse_abandoned_builds` refuses, and RuntimeError when a
    process failed otherwise.
    """
    if job.machine.processes == 1 and job.machine.deepspeed_stage is None:
        return job.run()
    job.check()
    if job.machine.deepspeed_stage is not None:
        refuse_abandoned_builds()
    with tempfile.TemporaryDirectory() as folder, lifeline() as standard_input:
        path = Path(folder, "job.json")
        path.write_text(job.model_dump_json())
        ended = subprocess.run(
            [
                *(sys.executable, "-P", "-m", "torch.distributed.run", "--standalone"),
                *("--nproc-per-node", str(job.machine.processes)),
                *("-m", "airlab.training.worker", str(path)),
            ],
            stdin=standard_input,
            env=_environment(job),
            check=False,
        )
        mistake = path.with_name(USER_ERROR)
        if mistake.exists():
            raise UserError(mistake.read_text())
        if ended.returncode != 0:
            raise RuntimeError(f"a training process failed with exit code {ended.returncode}")
        facts: dict[str, object] = json.loads(path.with_name(FACTS).read_text())
        return facts


def _environment(job: AnyJob) -> dict[str, str]:
    packages = str(Path(airlab.__file__).parents[1])
    environment = os.environ | {
        "PYTHONSAFEPATH": "1",  # nothing is imported from the folder that the user is in
        "PYTHONPATH": os.pathsep.join(filter(None, [packages, os.environ.get("PYTHONPATH")])),
        "OMP_NUM_THREADS": os.environ.get(
            "OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // job.machine.processes))
        ),
    }
    if job.machine.device == "cpu":
        environment |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return environment
