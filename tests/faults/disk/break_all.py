"""Runs pipelines on disks that fill up, cannot be written, fail to flush or refuse long files.

Usage: python -m tests.faults.disk.break_all FOLDER PLAN, where PLAN is JSON: pipeline → disk → how many of
its sizes or moments (null for all). `full` and `read-only` disks are mounted, so for these the process must
be let mount in a namespace of its own (see `test_broken_disks.py`). An attempt on a broken disk must end with
one sentence; then the disk is mended, and the next attempt must end with the bytes of an undisturbed one. One
line of JSON a pipeline and disk tells what was tried and what went wrong.
"""

import atexit
import errno
import functools
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from airlab.store.durable import size_of
from airlab.store.provenance import provenance
from tests.faults.attempts import Attempt, attempt, finished, leftovers, take_over
from tests.faults.pipelines import PIPELINES, Pipeline, begin
from tests.faults.warm import claimed

PAGE = 4096
ROOM = "256m"
SAYS = {
    "full": "the disk is full: ",
    "crowded": "the disk takes no more files: ",
    "read-only": "read-only",
    "limited": "file too large",
    "failing": "input/output error",
}
"""What the sentence must hold."""


@dataclass
class Broken:
    """A pipeline, what it leaves on a good disk, and what went wrong on others."""

    pipeline: Pipeline
    folder: Path
    wrong: list[str] = field(default_factory=list)
    tried: int = 0

    def prepare(self) -> None:
        """Make the inputs, and everything once on a good disk."""
        for module in self.pipeline.modules:
            importlib.import_module(module)
        self.given = self.folder / "given"
        self.given.mkdir(parents=True)
        if (prepared := attempt(functools.partial(self.pipeline.prepare, self.given), self.given)).code:
            raise SystemExit(f"{self.pipeline.name} could not be prepared:\n{prepared.told}")
        self.place = self.folder / "place"
        with self._disk("good") as place:
            self.before = finished(place)
            done = self._attempt()
            if done.code:
                raise SystemExit(f"{self.pipeline.name} ended with {done.code} undisturbed:\n{done.told}")
            take_over(done)
            self.expected = finished(place)
            self.needed, self.names = size_of(place), len(list(place.rglob("*")))

    def full(self, most: int | None) -> None:
        """A disk of a page more each time, until everything fits.

        What is needed at once is more than what is left: beyond four times that, a tenth more each time.
        """
        most_pages = 4 * self.needed // PAGE
        sizes = list(range(1, max(2, most_pages)))  # a tmpfs of no bytes has no limit
        while sizes[-1] < 64 * most_pages:
            sizes.append(sizes[-1] + max(1, sizes[-1] // 10))
        if most is not None:
            sizes = sorted({self.needed * (number + 1) // (most + 1) // PAGE + 1 for number in range(most)})
        for pages in sizes:
            with self._disk(f"full after {pages} pages") as place:
                used = os.statvfs(place)
                taken = (used.f_blocks - used.f_bfree) * used.f_frsize
                _mount("-o", f"remount,size={taken + pages * PAGE}", str(place))
                if not self._refused("full", f"room for {pages} pages"):
                    return
                _mount("-o", f"remount,size={ROOM}", str(place))
                self._goes_on(f"room for {pages} pages")
        if most is None:
            self.wrong.append(f"room for {pages} pages was too little")

    def crowded(self, _: int | None) -> None:
        """A disk that takes a file or folder more each time, until there are enough."""
        for names in range(10 + 4 * self.names):
            where = f"room for {names} files"
            with self._disk(where) as place:
                used = os.statvfs(place)
                _mount("-o", f"remount,nr_inodes={used.f_files - used.f_ffree + names}", str(place))
                if not self._refused("crowded", where):
                    return
                _mount("-o", "remount,nr_inodes=100k", str(place))
                self._goes_on(where)
        self.wrong.append(f"room for {names} files was too little")

    def read_only(self, _: int | None) -> None:
        """A disk that can only be read."""
        with self._disk("read-only") as place:
            _mount("-o", "remount,ro", str(place))
            self._refused("read-only", "read-only")
            _mount("-o", "remount,rw", str(place))
            self._goes_on("read-only")

    def limited(self, most: int | None) -> None:
        """Files that may not be longer than some bytes."""
        for limit in [2000, 3000, 5000, 10_000][: most or None]:
            with self._disk(f"files of {limit} bytes"):

                def shorten(limit: int = limit) -> None:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

                if self._refused("limited", f"files of {limit} bytes", shorten):
                    self._goes_on(f"files of {limit} bytes")

    def failing(self, most: int | None) -> None:
        """A disk that does not take what is flushed to it, at one flush after another."""
        at, step = 1, 1
        flushes = self._flushes()
        if most is not None:
            step = max(1, flushes // most)
        for at in range(1, flushes + 1, step):
            with self._disk(f"flush {at} fails"):
                if self._refused("failing", f"flush {at} fails", functools.partial(_fail_flush, at)):
                    self._goes_on(f"flush {at} fails")

    def slow(self, most: int | None) -> None:
        """A disk that takes long to flush, killed at moments most of which are in the middle of a flush."""
        for number in range(most or 10):
            where = f"killed after {(number + 1) * 0.2:.1f} s on a slow disk"
            with self._disk(where) as place:
                done = attempt(
                    functools.partial(self.pipeline.run, self.given),
                    place,
                    after_s=(number + 1) * 0.2,
                    before=_slow_flush,
                )
                self.tried += done.code != 0
                self._whole(where)
                self._goes_on(where)

    def _flushes(self) -> int:
        with self._disk("counted"):
            done = self._attempt(functools.partial(_fail_flush, 0))
            return int(done.told.rsplit("flushes ", 1)[1].split()[0])

    @contextmanager
    def _disk(self, name: str) -> Iterator[Path]:
        """A place that is a disk of its own where mounting is allowed, and a folder elsewhere."""
        self.place = self.folder / name.replace(" ", "-")
        self.place.mkdir(parents=True)
        mounted = _may_mount() and _mount("-t", "tmpfs", "-o", f"size={ROOM}", "none", str(self.place))
        begin(self.given, self.place)
        try:
            yield self.place
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", str(self.place)], check=True)

    def _attempt(self, before: Callable[[], None] | None = None) -> Attempt:
        return attempt(functools.partial(self.pipeline.run, self.given), self.place, before=before)

    def _refused(self, disk: str, where: str, before: Callable[[], None] | None = None) -> bool:
        """Whether the disk was felt; it must have been told in a sentence then."""
        done = self._attempt(before)
        self._whole(where)
        if done.code == 0:
            return False
        self.tried += 1
        last = done.told.splitlines()[-1:] or [""]
        if done.code != 2 or "Traceback" in done.told or SAYS[disk].lower() not in last[0].lower():
            self.wrong.append(f"{where}: ended with {done.code} and told {done.told[-3000:]}")
        return True

    def _whole(self, where: str) -> None:
        for name, digest in finished(self.place).items():
            if digest not in (self.expected.get(name), self.before.get(name)):
                self.wrong.append(f"{where}: {name} has its final name and is not whole")

    def _goes_on(self, where: str) -> None:
        done = self._attempt()
        if done.code != 0:
            self.wrong.append(f"{where}: did not go on: {done.code} {done.told[-3000:]}")
        elif finished(self.place) != self.expected:
            self.wrong.append(f"{where}: ended with other content")
        elif left := leftovers(self.place):
            self.wrong.append(f"{where}: left {left}")


def _mount(*arguments: str) -> bool:
    subprocess.run(["mount", *arguments], check=True)
    return True


@functools.cache
def _may_mount() -> bool:
    """Whether this process was started where mounting is its own affair."""
    return "AIRLAB_FAULTS_MOUNTS" in os.environ


def _fail_flush(at: int) -> None:
    flush, seen = os.fsync, 0

    def failing(descriptor: int) -> None:
        nonlocal seen
        seen += 1
        if seen == at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        flush(descriptor)

    os.fsync = failing  # type: ignore[assignment]
    atexit.register(lambda: print(f"flushes {seen}", file=sys.stderr) if at == 0 else None)


def _slow_flush() -> None:
    flush = os.fsync

    def slow(descriptor: int) -> None:
        time.sleep(0.1)
        flush(descriptor)

    os.fsync = slow  # type: ignore[assignment]


def main() -> None:
    """See the module's docstring."""
    folder, plan = Path(sys.argv[1]), json.loads(sys.argv[2])
    provenance()  # asks git, once instead of in every fork
    for name, disks in plan.items():
        place = folder / name.replace(" ", "-")
        if not claimed(place):
            continue
        broken = Broken(PIPELINES[name], place)
        broken.prepare()
        for disk, most in disks.items():
            broken.tried, broken.wrong = 0, []
            getattr(broken, disk.replace("-", "_"))(most)
            told = {"pipeline": name, "disk": disk, "tried": broken.tried, "wrong": broken.wrong}
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
