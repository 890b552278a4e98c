"""Processes of this host that measure a stage's shards side by side, on a GPU each where it has GPUs.

The process that runs the stage deals out shards one by one, so a slow worker gets fewer, and what one that
was killed had in hand goes to whoever is free. Workers are started anew (spawn): one forked from a process
with a tokenizer's or PyTorch's threads may wait for them forever. They end when that process does.
"""

import gc
import multiprocessing
import signal
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from airlab.errors import UserError
from airlab.progress import announce, duration, progress
from airlab.schema.machine import Machine
from airlab.stages.shard_worker import WorkerJob, run_worker, worker_name
from airlab.stages.shards import SHARDS_AHEAD, ShardedStage, shard_name, told
from airlab.store.fingerprint import fingerprint
from airlab.store.stage import Workdir
from airlab.text.documents import Shard

MOST_DEATHS = 3
"""Workers that may be killed at one place before it is taken for the cause."""

_LOOK_EVERY_S = 15.0
_GRACE_S = 10.0
_SLOW = 4.0
"""A shard is told of that takes this many times the median of those before it."""


def workers_for(machine: Machine, missing: Sequence[Shard]) -> int:
    """How many processes measure these shards: `machine.processes`, but no more than there are shards.

    Raises:
        UserError: there are fewer GPUs than processes.
    """
    if machine.processes > 1 and machine.device == "cuda":
        import torch

        there = torch.cuda.device_count()
        if there == 0:
            raise UserError("machine.device is cuda and no GPU is visible: choose machine=cpu.")
        if there < machine.processes:
            raise UserError(
                f"machine.processes={machine.processes} and this host shows {there} GPU{'s' * (there > 1)}: "
                f"set machine.processes={there}, every process has a GPU of its own."
            )
    if 0 < len(missing) < machine.processes:
        announce(
            f"{len(missing)} of {machine.processes} processes have something to score: there are no more "
            "shards; smaller ones (machine.documents_per_shard) occupy more"
        )
    return min(machine.processes, len(missing))


def measure_in_workers(
    work: Workdir,
    stage: ShardedStage,
    machine: Machine,
    shards: Sequence[Shard],
    missing: Sequence[Shard],
    count: int,
    advance: Callable[[float], None],
) -> None:
    """Measure the missing shards in so many processes; each shard is saved as soon as it is measured.

    A worker that is killed is replaced, and costs the shard that it was at. Shards that take much longer than
    others are told of.

    Args:
        advance: told how many units are measured.

    Raises:
        UserError: what a worker refused, or a shard that killed `MOST_DEATHS` workers.
        RuntimeError: a worker failed otherwise; it has printed how.
    """
    _make_room(machine)
    inputs = {fingerprint(item): work.input(item) for item in stage.inputs()}
    job = partial(WorkerJob, stage, inputs, work.folder, machine, count, len(shards))
    with ExitStack() as shown:
        crew = _Crew(work, stage, job, deque(missing), advance)
        shown.callback(crew.end)
        for number in range(count):
            label = f"{worker_name(machine, number)}, of {count}"
            crew.start(number, shown.enter_context(progress(label, stage.UNITS)))
        crew.finish()


@dataclass
class _Worker:
    """One process, as the one that started it sees it."""

    number: int
    process: BaseProcess
    pipe: Connection
    advance: Callable[[float], None]
    held: deque[Shard] = field(default_factory=deque)
    """Dealt and not yet saved, in the order in which it measures them."""
    since: float = 0.0
    """When it began with the first of them."""
    reported: float = 0.0
    """Units of that one that count as done already."""


class _Crew:
    """All workers of one stage, and the shards that nobody has yet."""

    def __init__(
        self,
        work: Workdir,
        stage: ShardedStage,
        job: Callable[[int], WorkerJob],
        waiting: deque[Shard],
        advance: Callable[[float], None],
    ) -> None:
        self.work, self.stage, self.job, self.waiting, self.advance = work, stage, job, waiting, advance
        self.machine = job(0).machine
        self.workers: list[_Worker] = []
        self.deaths: Counter[Shard | None] = Counter()
        self.took: list[float] = []
        self.told: set[Shard] = set()

    def start(self, number: int, advance: Callable[[float], None]) -> None:
        ours, its = multiprocessing.get_context("spawn").Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=run_worker, args=(self.job(number), its), name=worker_name(self.machine, number)
        )
        with _without_interrupts():  # Ctrl-C is for this process, which ends the worker in order
            process.start()
        its.close()
        self.workers.append(_Worker(number, process, ours, advance))

    def finish(self) -> None:
        """Deal out everything and return when it is saved."""
        while self.waiting or any(worker.held for worker in self.workers):
            self._deal()
            signs: dict[Any, _Worker] = {worker.pipe: worker for worker in self.workers}
            signs |= {worker.process.sentinel: worker for worker in self.workers}
            ready = wait(list(signs), timeout=_LOOK_EVERY_S)
            for worker in {signs[sign].number: signs[sign] for sign in ready}.values():
                if not self._hear(worker):
                    self._bury(worker)
            self._tell_of_slow_ones()

    def end(self) -> None:
        """End all workers: those that wait by themselves, the others at once."""
        deadline = time.monotonic() + _GRACE_S
        for worker in self.workers:
            if worker.held:
                worker.process.kill()
            worker.pipe.close()
        for worker in self.workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            worker.process.kill()
            worker.process.join()

    def _deal(self) -> None:
        """Give everybody a shard, and while there are plenty for all, some to read ahead."""
        while self.waiting:
            worker = min(self.workers, key=lambda worker: len(worker.held))
            if len(worker.held) > min(SHARDS_AHEAD, len(self.waiting) // len(self.workers)):
                return
            with suppress(OSError):  # it is dead, and will be buried with what it holds
                worker.pipe.send(self.waiting[0])
            if not worker.held:
                worker.since = time.monotonic()
            worker.held.append(self.waiting.popleft())

    def _hear(self, worker: _Worker) -> bool:
        """Take what a worker has to say; False if it will say nothing more."""
        try:
            while worker.pipe.poll():
                self._take(worker, *worker.pipe.recv())
        except (EOFError, ConnectionError):
            return False
        return worker.process.is_alive()

    def _take(self, worker: _Worker, said: str, what: Any) -> None:
        if said == "mistake":
            raise UserError(what)
        if said == "begun":
            worker.since = time.monotonic()
        elif said == "advanced":
            worker.reported += what
            worker.advance(what)
            self.advance(what)
        elif said == "saved":
            self.took.append(time.monotonic() - worker.since)
            worker.held.popleft()
            worker.reported, worker.since = 0.0, time.monotonic()
            self.work.save_attempt()

    def _bury(self, worker: _Worker) -> None:
        """Put back what a dead worker had, and start another in its place."""
        worker.process.join()
        worker.pipe.close()
        self.workers.remove(worker)
        code = worker.process.exitcode or 0
        place = worker.held[0] if worker.held else None
        at = "while it started" if place is None else f"at {told(self.stage, place)}"
        who = worker_name(self.machine, worker.number)
        if code >= 0:
            raise RuntimeError(f"{who} ended with exit code {code} {at}; its error is printed above")
        how = f"{who} was killed by {signal.Signals(-code).name} {at}"
        worker.advance(-worker.reported)
        self.advance(-worker.reported)
        saved = [shard for shard in worker.held if self.work.has(shard_name("losses", shard))]
        for shard in saved:
            worker.advance(shard.documents)
            self.advance(shard.documents)
        self.waiting.extendleft(reversed([shard for shard in worker.held if shard not in saved]))
        self.deaths[place] += 1
        if self.deaths[place] == MOST_DEATHS:
            raise UserError(
                f"{how}, as {MOST_DEATHS - 1} before it: systems kill what takes too much memory; "
                "lower machine.processes or machine.tokens_per_batch and run the same command again, it "
                "continues from what is finished."
            )
        announce(f"{how}; another takes its place")
        self.start(worker.number, worker.advance)

    def _tell_of_slow_ones(self) -> None:
        if not self.took:
            return
        usual = statistics.median(self.took)
        for worker in self.workers:
            spent = time.monotonic() - worker.since
            if not worker.held or worker.held[0] in self.told or spent < max(_SLOW * usual, _LOOK_EVERY_S):
                continue
            self.told.add(worker.held[0])
            announce(
                f"{worker_name(self.machine, worker.number)} (process {worker.process.pid}) has been at "
                f"{told(self.stage, worker.held[0])} for {duration(spent)}; half of the others took "
                f"{duration(usual)} or less"
            )


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started meanwhile never see Ctrl-C; we see it afterwards."""
    resource_tracker.ensure_running()  # otherwise starting it lets signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _make_room(machine: Machine) -> None:
    """Give back what earlier stages left on this process's GPU: a worker takes that one too."""
    if machine.device == "cuda":
        import torch

        from airlab.scoring.recorded import recorded_pass

        recorded_pass.cache_clear()
        gc.collect()
        torch.cuda.empty_cache()
