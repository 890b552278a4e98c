"""What is printed to a reader that left or to a full disk: a quiet end or a sentence, and no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from airlab.cli.answer import answer
from airlab.cli.main import VERBS
from tests.faults.ledger import FULL, count

ROOT = Path(__file__).parents[3]
PRINTING = [["--help"], ["select", "--help"]]
if FULL:
    PRINTING += [[verb, "--help"] for verb in VERBS if verb != "select"]
    PRINTING += [["plan", "experiment=attention_influence/main", "scale=smoke"]]
BUFFERED = [False, True]
"""What is buffered fails when Python ends, and what is not where it is printed."""


def printed_to(
    output: int, arguments: list[str], folder: Path, is_buffered: bool, error: int = subprocess.PIPE
) -> "subprocess.CompletedProcess[str]":
    """A command as its users start it."""
    program = "from airlab.cli.main import main; main()"
    places = {"PYTHONPATH": str(ROOT), "AIRLAB_STORE": str(folder / "store")}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | places | {"PYTHONUNBUFFERED": "" if is_buffered else "1"},
        cwd=folder, stdout=output, stderr=error, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def unread() -> int:
    """A pipe whose reader left."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("is_buffered", BUFFERED)
@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_reader_that_left_is_told_nothing(
    arguments: list[str], is_buffered: bool, unread: int, tmp_path: Path
) -> None:
    done = printed_to(unread, arguments, tmp_path, is_buffered)
    assert (done.returncode, done.stderr) == (141, "")
    count("disk", "readers of a command's output that left", faults=1)


def test_so_is_one_of_messages(unread: int, tmp_path: Path) -> None:
    done = printed_to(subprocess.PIPE, ["nothing"], tmp_path, False, error=unread)
    assert (done.returncode, done.stdout) == (141, "")
    count("disk", "readers of a command's output that left", faults=1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no disk that is always full")
@pytest.mark.parametrize("is_buffered", BUFFERED)
@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_an_output_on_a_full_disk_is_told_in_a_sentence(
    arguments: list[str], is_buffered: bool, tmp_path: Path
) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    done = printed_to(full, arguments, tmp_path, is_buffered)
    os.close(full)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("airlab: what is printed cannot be written ([Errno 28] No space left")
    count("disk", "outputs printed to full disks", faults=1)


def test_a_pipe_of_the_program_itself_that_breaks_stays_an_error() -> None:
    """Only a reader of what is printed may leave in silence."""

    def broken() -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        answer("made", broken)
