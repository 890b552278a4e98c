"""Two processes that want the same: one works, the other waits; and nobody waits for one that is dead."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from airlab.errors import UserError
from airlab.store import durable
from tests.faults.ledger import count

ROOT = Path(__file__).parents[3]

WRITER = """
import sys, time
from pathlib import Path
from airlab.store.durable import alone, written
final, letter, stop = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "stop"
with alone(final), written(final) as temporary:
    with temporary.open("w") as file:
        file.write(letter * 1000)
        file.flush()
        print("writing", flush=True)
        if stop:
            sys.stdin.readline()
        file.write(letter * 1000)
print("written", flush=True)
"""

OWNER = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from airlab.schema.machine import Machine
from airlab.store.stage import Stage
from airlab.store.store import Store
@dataclass(frozen=True)
class Slow(Stage):
    VERSION: ClassVar[int] = 1
    def run(self, work, machine):
        print("working", flush=True)
        if sys.argv[2] == "stop":
            sys.stdin.readline()
        with work.writing("a") as path:
            path.write_text("made")
print(Store(Path(sys.argv[1])).make(Slow(), Machine()), flush=True)
"""


CLAIMER = """
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from airlab.store.stage import Stage
from airlab.store.store import Store
@dataclass(frozen=True)
class Slow(Stage):
    VERSION: ClassVar[int] = 1
with Store(Path(sys.argv[1])).claim(Slow()) as mine:
    print(mine, flush=True)
    sys.stdin.readline()
"""


class Started:
    """Some processes, all of which end with the test."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[str]] = []

    def __call__(self, program: str, *arguments: object) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self.processes.append(process)
        return process


@pytest.fixture
def started() -> Iterator[Started]:
    some = Started()
    yield some
    for process in some.processes:
        process.kill()
        process.communicate()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_of_two_writers_of_one_output_each_leaves_a_whole_one(started: Started, tmp_path: Path) -> None:
    """Otherwise they share an unfinished name, and the first to end gives the other's half the final name."""
    final = tmp_path / "out.txt"
    first = started(WRITER, final, "a", "stop")
    assert line(first) == "writing"
    second = started(WRITER, final, "b", "go")
    time.sleep(1.0)  # enough to start; were the second let in, it would be writing by now
    assert not final.exists()
    go_on(first)
    assert line(first) == "written"
    assert (line(second), line(second)) == ("writing", "written")
    assert final.read_text() == "b" * 2000
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]
    count("disk", "two writers of one output", faults=1)


def test_a_writer_that_is_killed_gives_way_and_leaves_nothing_final(started: Started, tmp_path: Path) -> None:
    final = tmp_path / "out.txt"
    first = started(WRITER, final, "a", "stop")
    assert line(first) == "writing"
    second = started(WRITER, final, "b", "go")
    first.send_signal(signal.SIGKILL)
    assert (line(second), line(second)) == ("writing", "written")
    assert final.read_text() == "b" * 2000
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]
    count("disk", "two writers of one output", faults=1)


def test_what_a_killed_writer_left_goes_when_the_output_is_asked_for_again(
    started: Started, tmp_path: Path
) -> None:
    final = tmp_path / "out.txt"
    first = started(WRITER, final, "a", "stop")
    assert line(first) == "writing"
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert len(list(tmp_path.iterdir())) == 2
    durable.tidy(final)
    assert list(tmp_path.iterdir()) == []


def test_the_lease_of_a_living_owner_lasts_whatever_its_clock_says(started: Started, tmp_path: Path) -> None:
    """A lease is a lock that the system holds, no date: an old file is none that expired."""
    first = started(OWNER, tmp_path, "stop")
    assert line(first) == "working"
    (lease,) = tmp_path.glob("slow/.lease-*")
    os.utime(lease, (0, 0))
    second = started(OWNER, tmp_path, "go")
    assert second.stderr is not None
    assert "another process is working on it; waiting for it to finish" in second.stderr.readline()
    assert second.poll() is None
    go_on(first)
    made = line(first)
    assert line(second) == made, "the second worked although the first had done it"
    count("disk", "leases of living owners with odd clocks", faults=1)


def test_the_lease_of_a_dead_owner_ends_with_it_whatever_its_clock_says(
    started: Started, tmp_path: Path
) -> None:
    first = started(OWNER, tmp_path, "stop")
    assert line(first) == "working"
    first.send_signal(signal.SIGKILL)
    first.wait()
    (lease,) = tmp_path.glob("slow/.lease-*")
    tomorrow = time.time() + 86_400
    os.utime(lease, (tomorrow, tomorrow))
    second = started(OWNER, tmp_path, "go")
    assert line(second) == "working"
    assert Path(line(second), "a").read_text() == "made"
    count("disk", "leases of dead owners", faults=1)


def test_a_claim_keeps_others_away_as_long_as_its_owner_lives(started: Started, tmp_path: Path) -> None:
    first = started(CLAIMER, tmp_path)
    assert line(first) == "True"
    assert line(started(CLAIMER, tmp_path)) == "False"
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert line(started(CLAIMER, tmp_path)) == "True"
    count("disk", "claims of dead owners", faults=1)


def test_an_output_that_appears_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    from airlab.cli.outputs import IDENTITY, write_output

    final = tmp_path / "out.json"

    def write(path: Path) -> None:
        path.write_text(f'{{"{IDENTITY}": "mine"}}')
        final.write_text(f'{{"{IDENTITY}": "another\'s"}}')  # as if by a process that holds no turn

    with pytest.raises(UserError, match="already exists and was made from something else"):
        write_output(final, write)
    assert "another's" in final.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
