"""What a command started ends with it, however it ends: an orphan writes where the next attempt works."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.faults.ledger import FULL, count

ROOT = Path(__file__).parents[3]
DEADLINE_S = 120
"""Only a test that fails takes so long."""

EVALUATION = """
import sys, threading, time
from airlab.evaluation.client import worker
one = worker(offline=True)
asked = {"checkpoint": sys.argv[1], "tasks": sys.argv[1], "spec": None, "output": sys.argv[1] + "/records",
         "batch_size": 1, "device": "cpu", "seed": 0, "mask": None}
threading.Thread(target=one.ask, args=(asked,), daemon=True).start()
time.sleep(600)
"""

CHATS = """
import sys, time
from airlab.schema.traces import Rendering
from airlab.text.rendering import render
from airlab.text.traces import Message, Trace
from tests.unit.text.made_chat import chat_tokenizer
render(chat_tokenizer(), Trace("t", "", (Message("user", "1 + 1?"),), "2"), Rendering())
time.sleep(600)
"""

TRAINING = """
import sys
from pathlib import Path
from airlab.training import launch, pretrain
launch.launch(pretrain.Job.model_validate_json(Path(sys.argv[1]).read_text()))
"""


def started(
    program: str, argument: Path, wanted: str, number: int
) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """A process, and its descendants as soon as so many of them run a module."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", program, str(argument)], env=environment)
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        below = list(descendants(process.pid))
        if sum(wanted in " ".join(one.cmdline()) for one in below if one.is_running()) >= number:
            return process, below
        time.sleep(0.1)
    process.kill()
    raise AssertionError(f"{wanted} was not started")


def descendants(pid: int) -> Iterator[psutil.Process]:
    yield from psutil.Process(pid).children(recursive=True)


def end_and_look(process: subprocess.Popen[bytes], below: list[psutil.Process]) -> list[psutil.Process]:
    """Kill the process; returns which of its descendants stay."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(below, timeout=DEADLINE_S)
    for one in alive:
        one.kill()
    return alive


def test_an_evaluation_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    """Killed in the middle of a request that would never end by itself."""
    os.mkfifo(tmp_path / "tasks.json")  # nobody writes what it reads first
    process, below = started(EVALUATION, tmp_path, "airlab.evaluation.worker", 1)
    assert end_and_look(process, below) == []
    count("kills", "parents of an evaluation, whose process ends with them", faults=1)


def test_a_process_of_chat_templates_ends_with_the_one_that_asked_it(tmp_path: Path) -> None:
    process, below = started(CHATS, tmp_path, "airlab.text.template_process", 1)
    assert end_and_look(process, below) == []
    count("kills", "parents of a process of chat templates, which ends with them", faults=1)


@pytest.mark.skipif(not FULL, reason="three processes import torch; AIRLAB_FAULTS=full")
def test_a_training_of_several_processes_ends_with_the_process_that_launched_it(tmp_path: Path) -> None:
    from tests.resume.test_training_kill import a_job

    job = a_job(tmp_path, "killed")
    machine = job.machine.model_copy(update={"processes": 2, "sequences_per_micro_batch": 1})
    given = tmp_path / "job.json"
    given.write_text(job.model_copy(update={"machine": machine}).model_dump_json())
    process, below = started(TRAINING, given, "airlab.training.worker", 2)
    assert end_and_look(process, below) == []
    assert not (job.output / "model.safetensors").exists()
    count("kills", "parents of a training, whose processes end with them", faults=1)
