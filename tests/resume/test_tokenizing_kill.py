"""`airlab tokenize`, killed, goes on where it was: it reads nothing again that is finished."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.unit.text.small_hub import COMMIT, NAME, Hub, lay_out, serving
from tests.unit.training.made_corpus import save_tokenizer

ROOT = Path(__file__).parents[2]
FILES = 12
"""Each is one shard."""


class Place:
    """A hub, and a store in which one command is run again and again."""

    def __init__(self, folder: Path, hub: Hub, environment: dict[str, str]) -> None:
        self.folder, self.hub = folder, hub
        self.environment = environment | {"PYTHONPATH": str(ROOT)}

    def start(self, store: str, processes: int = 1) -> subprocess.Popen[str]:
        command = [
            *(sys.executable, "-c", "from airlab.cli.main import main; main()", "tokenize"),
            *("corpus=open-web-math", f"corpus.hub.name={NAME}", f"corpus.hub.revision={COMMIT}"),
            *("corpus.hub.config=prose", "corpus.columns.id=id", f"machine.processes={processes}"),
            *("model=local", f"model.path={self.folder / 'tokenizer'}"),
        ]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment | {"AIRLAB_STORE": str(self.folder / store)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, store: str, processes: int = 1) -> str:
        process = self.start(store, processes)
        _, told = process.communicate(timeout=300)
        assert "Traceback" not in told
        return told if process.returncode else ""

    def held_at(self, store: str, file: int) -> subprocess.Popen[str]:
        """A command that waits for the hub while a shard of that file is read."""
        name = names()[file]
        self.hub.reached.clear()
        self.hub.release.clear()
        # Once when it is planned what is read, if that was not before.
        planned = bool(self.hub.ranges(name))
        self.hub.hold = (name, len(self.hub.ranges(name)) + (1 if planned else 2))
        process = self.start(store)
        assert self.hub.reached.wait(300), process.communicate()
        self.hub.hold = None
        return process

    def readings(self) -> dict[str, int]:
        return {name: len(self.hub.ranges(name)) for name in names()}

    def part(self, store: str) -> Path:
        (found,) = (self.folder / store / "tokenize_shards").glob("*.part")
        return found

    def contents(self, store: str) -> dict[str, bytes]:
        (found,) = (self.folder / store / "tokenize_shards").glob("prose-*")
        return {p.name: p.read_bytes() for p in found.iterdir() if p.name != "record.json"}


def names() -> list[str]:
    return [f"prose/train-{number:05d}-of-{FILES:05d}.parquet" for number in range(FILES)]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    save_tokenizer(tmp_path / "tokenizer")
    with serving(lay_out(tmp_path / "hub", files=FILES)) as (hub, environment):
        yield Place(tmp_path, hub, environment)


def test_killed_it_reads_no_finished_shard_again_and_writes_the_same_bytes(place: Place) -> None:
    """And refuses to go on with a file that was changed meanwhile."""
    assert place.finish("whole", processes=2) == ""
    once = place.readings()
    assert set(once.values()) == {2}, "to plan with its footer, and to tokenize"
    place.hub.asked.clear()
    for file in (3, 8):
        process = place.held_at("killed", file)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) == 1
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert psutil.wait_procs(workers, timeout=60)[1] == [], "a worker outlives the command"
        place.hub.release.set()
        finished = sorted(p.name for p in (place.part("killed") / "shards").glob("facts-*"))
        assert finished == [f"facts-{number:05d}" for number in range(file)]
    changed = place.folder / "hub" / names()[8]
    sound = changed.read_bytes()
    changed.write_bytes(b"PAR1" + sound)
    told = place.finish("killed")
    assert f"{names()[8]} of {NAME} (prose) at {COMMIT} is not what it was when it was first listed" in told
    changed.write_bytes(sound)
    assert place.finish("killed", processes=2) == ""
    assert place.contents("killed") == place.contents("whole")
    again = {name for name, n in place.readings().items() if n != once[name]}
    assert again <= {names()[3], names()[8]}
    assert not list((place.folder / "killed").rglob(".writing-*"))
