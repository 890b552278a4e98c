"""Where artifacts lie, who may make one, and how one comes to be finished.

``root/<stage name>/<slug>-<first 12 of the fingerprint>/`` is a finished artifact; its record holds all
64 digits and is compared on every open. ``root/<stage name>/<64 digits>.part/`` is an unfinished one:
its name carries the whole fingerprint, so nothing else can be continued by mistake. A lock file, which
the system releases when its owner dies, lets one process at a time work on a stage.
"""

import datetime
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from airlab.errors import UserError
from airlab.progress import announce
from airlab.schema.machine import Machine
from airlab.store import durable
from airlab.store.copies import copy_artifact
from airlab.store.fingerprint import fingerprint
from airlab.store.provenance import check_libraries
from airlab.store.record import Record, check_contents, make_record, read_record
from airlab.store.stage import ATTEMPTS, CLAIM, LEASE, PART, RECORD, TRACKING, Stage, Workdir
from airlab.store.touched import check_untouched, mark

_FOLDER_DIGITS = 12


class Store:
    """All artifacts below one local folder, addressed by what they are."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._listed: dict[Path, tuple[int, dict[str, str]]] = {}

    def folder(self, stage: Stage) -> Path:
        """Where the stage's artifact lies, or will lie.

        An artifact is recognised by the digits alone: a slug that has been reworded since keeps working.
        """
        digits = fingerprint(stage)[:_FOLDER_DIGITS]
        slug = re.sub(r"[^a-z0-9._]+", "-", stage.slug().lower()).strip("-.")[:60]
        return self._folder(stage.name, f"{slug}-{digits}" if slug else digits)

    def _folder(self, name: str, title: str) -> Path:
        parent = self.root / name
        folder = parent / title
        if folder.exists() or not parent.is_dir():
            return folder
        reworded = self._names(parent).get(title.rpartition("-")[2])
        return folder if reworded is None or not (parent / reworded).exists() else parent / reworded

    def _names(self, parent: Path) -> dict[str, str]:
        """The folders of a stage's artifacts by their digits; listed again only where something changed."""
        changed = parent.stat().st_mtime_ns
        if self._listed.get(parent, (0, {}))[0] != changed:
            there = sorted((path.name for path in parent.iterdir()), reverse=True)
            names = {name.rpartition("-")[2]: name for name in there if not name.startswith(durable.WRITING)}
            self._listed[parent] = changed, names
        return self._listed[parent][1]

    def part(self, stage: Stage) -> Path:
        """Where the stage's unfinished work lies, if there is any."""
        return self._part(stage.name, fingerprint(stage))

    def _part(self, name: str, address: str) -> Path:
        return self.root / name / f"{address}{PART}"

    def find(self, stage: Stage) -> Path | None:
        """The finished artifact's folder for whoever reads it, or None.

        Raises:
            UserError: naming the folder to delete, if something is there that is not as it was finished: its
                record, its files' names and sizes, the contents of those that may have been touched since; or
                if another major version of a library that computes made it.
        """
        record = self.record(stage)
        if record is None:
            return None
        folder = self.folder(stage)
        check_untouched(folder, record)
        check_libraries(folder, record.provenance)
        return folder

    def open(self, stage: Stage) -> Path:
        """The same of an artifact that must be there.

        Raises:
            UserError: as `find` does, or because it is not there.
        """
        found = self.find(stage)
        if found is None:
            raise UserError(f"{stage.name} has no finished artifact; run it first.")
        return found

    def record(self, stage: Stage) -> Record | None:
        """The finished artifact's record, or None. Raises as `find` does, but reads none of the files."""
        folder = self.folder(stage)
        if not folder.exists():
            return None
        return read_record(folder, stage)

    def verify(self, stage: Stage) -> Record:
        """Check every byte of a finished artifact against its record.

        Raises:
            UserError: if there is no such artifact or anything in it was changed, added or removed.
        """
        record = self.record(stage)
        if record is None:
            raise UserError(f"{stage.name} has no finished artifact to verify; run it first.")
        check_contents(self.folder(stage), record)
        mark(self.folder(stage), record)
        return record

    def make(self, stage: Stage, machine: Machine) -> Path:
        """Return the finished artifact, running the stage (or the rest of it) if it is not there yet.

        Inputs must be finished. On any error or interrupt nothing is promoted, and what was finished in
        the `.part` folder waits for the next call.
        """
        with _telling_disk_trouble(self.part(stage)), self._lease(stage.name, fingerprint(stage)):
            return self.find(stage) or self._finish(stage, machine)

    def adopt(self, folder: Path, record: Record) -> bool:
        """Copy a finished artifact from elsewhere, as if it had been made here.

        Waits for whoever makes it. What the store has under its fingerprint is left alone; what is unfinished
        of it has no more use.

        Args:
            folder: of a name that a store gives; its record and every byte were just checked.

        Returns:
            Whether it was copied.

        Raises:
            UserError: it was changed meanwhile, or the store cannot be written to.
        """
        part = self._part(record.name, record.fingerprint)
        with _telling_disk_trouble(part), self._lease(record.name, record.fingerprint):
            final = self._folder(record.name, folder.name)
            if final.exists():
                return False
            copy_artifact(folder, final, record)
            durable.remove(part)
            return True

    @contextmanager
    def claim(self, stage: Stage) -> Iterator[bool]:
        """Whether this process is the one that works towards a stage, inputs included, in this block.

        Unlike the lease of a stage, which whoever needs its artifact waits for, a claim is how processes that
        make the same list of stages share it out. That of a process that dies ends with it.

        Raises:
            UserError: the store cannot be written to.
        """
        with self._lock(stage.name, f"{CLAIM}{fingerprint(stage)}", wait=False) as mine:
            yield mine

    def _finish(self, stage: Stage, machine: Machine) -> Path:
        final, part = self.folder(stage), self.part(stage)
        if (part / RECORD).exists():  # stopped between the record and the rename
            read_record(part, stage)
        else:
            part.mkdir(exist_ok=True)
            self._work(stage, part, machine)
        durable.remove(part / ATTEMPTS)
        durable.sync(part)
        part.rename(final)
        durable.sync(final.parent)
        return final

    def _work(self, stage: Stage, part: Path, machine: Machine) -> None:
        started = _now()
        inputs = [record for item in stage.inputs() if (record := self.record(item)) is not None]
        walls = {record.fingerprint: record.wall_s for record in inputs}
        try:
            work = Workdir(part, lambda asked: self._input(stage, asked), self._tracking(stage))
            _check_unchanged(stage)
            stage.run(work, machine)
            _check_unchanged(stage)
            record = make_record(stage, work, started, _now(), walls)
            durable.sync_tree(part)
            with durable.written(part / RECORD) as temporary:
                temporary.write_text(record.model_dump_json(indent=1) + "\n")
            mark(part, record)
        except OSError as error:
            if part.is_dir():
                raise
            raise UserError(f"{part} was deleted by another program; run the same command again.") from error

    def _tracking(self, stage: Stage) -> Path:
        return self.root / TRACKING / stage.name / self.folder(stage).name

    def _input(self, stage: Stage, asked: Stage) -> Path:
        if fingerprint(asked) not in {fingerprint(item) for item in stage.inputs()}:
            raise ValueError(f"{asked.name} is not a field of {stage.name}, so it is no input of it")
        found = self.find(asked)
        if found is None:
            raise UserError(f"{asked.name} went away while {stage.name} needed it; run again.")
        return found

    @contextmanager
    def _lease(self, name: str, address: str) -> Iterator[None]:
        with self._lock(name, f"{LEASE}{address}", wait=True):
            yield

    @contextmanager
    def _lock(self, name: str, file: str, *, wait: bool) -> Iterator[bool]:
        folder = self.root / name
        lock = filelock.FileLock(folder / file)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
        except (PermissionError, FileNotFoundError, FileExistsError, NotADirectoryError) as error:
            raise UserError(f"cannot write to {folder}: {error.strerror}; choose another store.") from error
        except filelock.Timeout:
            if not wait:
                yield False
                return
            announce(f"{name}: another process is working on it; waiting for it to finish")
            lock.acquire()
        try:
            yield True
        finally:
            lock.release()


@contextmanager
def _telling_disk_trouble(part: Path) -> Iterator[None]:
    """A sentence in place of the error where a disk does not take what is written."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        trouble = durable.disk_trouble(error, part, durable.size_of(part))
        if trouble is None:
            raise
        raise trouble from error


def _check_unchanged(stage: Stage) -> None:
    """Refuse to work on, or to have worked on, other files than those that the stage's address stands for."""
    for files in stage.own_files():
        files.check()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
