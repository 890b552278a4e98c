"""One of the processes that torchrun starts: `torchrun … -m airlab.training.worker job.json`."""

import json
import os
import sys
from pathlib import Path

from airlab.errors import UserError
from airlab.training.pretrain import Job, pretrain

FACTS = "facts.json"
USER_ERROR = "user-error.txt"


def main(path: Path) -> None:
    """Run the job; the first process leaves its facts, or what the user did wrong, beside the job."""
    is_main = os.environ["RANK"] == "0"
    try:
        facts = pretrain(Job.model_validate_json(path.read_text()))
    except UserError as mistake:
        if is_main:
            path.with_name(USER_ERROR).write_text(str(mistake))
        raise
    if is_main:
        path.with_name(FACTS).write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
