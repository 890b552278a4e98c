"""The process lm-eval runs in, seen from inside: one JSON request a line in, one JSON reply a line out.

Lines before a reply say how far the work is (see `airlab.evaluation.watching`).

It ends when its input ends, even in the middle of an evaluation, so it never outlives the process that
started it: another one may soon write the same records.
"""

import gc
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airlab.errors import UserError


def main() -> None:
    """Answer requests; ends the process when standard input is closed."""
    # Replies go to a private copy of standard output; whatever libraries print goes to the log.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def write(message: dict[str, Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    while True:
        try:
            reply: dict[str, Any] = {"ok": _answer(json.loads(requests.get()), write)}
        except UserError as error:
            reply = {"user_error": str(error)}
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        _make_room()
        sys.stderr.flush()
        write(reply)


def _read(requests: "queue.SimpleQueue[str]") -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)  # whatever is being evaluated, nobody waits for it any more


def _make_room() -> None:
    """Give back the GPU's memory: this process lives on, and what is trained next needs it."""
    torch = sys.modules.get("torch")  # only an evaluation imports it
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def _answer(request: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    if "benchmark" in request:
        return _texts(request["benchmark"])
    began = time.perf_counter()
    checkpoint, output = Path(request["checkpoint"]), Path(request["output"])
    how = {key: request[key] for key in ("batch_size", "device", "seed")} | {"tell": tell}
    from airlab.evaluation import harness  # seconds of imports, paid once a process
    from airlab.evaluation.records import write_records
    from airlab.heads.mask import HeadMask
    from airlab.schema.evaluation import HarnessSpec

    imported = time.perf_counter()
    told = request["mask"]
    how["mask"] = told and HeadMask(
        tuple((layer, head) for layer, head in told["heads"]), told["mode"], told["model_digest"]
    )
    if request["spec"] is None:
        records = harness.evaluate_local(checkpoint, Path(request["tasks"]), **how)
    else:
        spec = HarnessSpec.model_validate_json(request["spec"])
        records = harness.evaluate_harness(checkpoint, spec, **how)
    versions = harness.software_versions()
    write_records(output, records, versions)
    return {
        "n_records": len(records),
        "n_items": len({record.item_hash for record in records}),
        "versions": versions,
        "import_wall_s": round(imported - began, 3),
        "wall_s": round(time.perf_counter() - imported, 3),
    }


def _texts(benchmark: str) -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    from airlab.evaluation.harness import software_versions
    from airlab.evaluation.targets import benchmark_texts

    texts, facts = benchmark_texts(benchmark, TaskManager())
    return {"texts": texts, "versions": software_versions(), **facts}


if __name__ == "__main__":
    main()
