"""One of the processes that torchrun starts: `torchrun … -m airlab.training.worker job.json`.

It ends when its standard input ends. torchrun survives the process that started it and hands its input on: a
training that went on by itself would write into the folder that the next attempt continues.
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from airlab.errors import UserError
from airlab.lifeline import at_end_of_input
from airlab.training.fine_tune import TuningJob
from airlab.training.pretrain import Job

FACTS = "facts.json"
USER_ERROR = "user-error.txt"

AnyJob = Job | TuningJob
_JOB: TypeAdapter[AnyJob] = TypeAdapter(Annotated[AnyJob, Field(discriminator="kind")])


def main(path: Path) -> None:
    """Run the job; the first process leaves its facts, or what the user did wrong, beside the job."""
    at_end_of_input(lambda: os._exit(1))
    is_main = os.environ["RANK"] == "0"
    try:
        facts = _JOB.validate_json(path.read_text()).run()
    except UserError as mistake:
        if is_main:
            path.with_name(USER_ERROR).write_text(str(mistake))
        raise
    if is_main:
        path.with_name(FACTS).write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
