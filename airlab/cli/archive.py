"""`airlab archive`: what a table is read from leaves the store, into one file beside the table."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airlab.cli.bind import bind
from airlab.cli.experiment import ARCHIVE, asked_for, check_results, open_plain
from airlab.cli.outputs import open_store
from airlab.errors import UserError
from airlab.schema.base import Frozen
from airlab.stages.known import known_stages
from airlab.store.archive import archive, archived_folders, digits_of
from airlab.store.durable import alone
from airlab.store.packed import pack, packed_folders, unpacked
from airlab.store.plan import Plan
from airlab.store.stage import Stage
from airlab.terminal import visible


class ArchiveCommand(Frozen):
    """What `configs/archive.yaml` binds to, besides the experiment itself."""

    stages: tuple[str, ...]
    """Stages whose artifacts are archived."""


def archives(results: Path) -> list[Path]:
    """Every archive below a folder of results, sorted."""
    return sorted(results.rglob(ARCHIVE))


def run(config: Mapping[str, Any]) -> None:
    """Add what is finished and in no archive yet, and tell how much is not finished."""
    own = ArchiveCommand.model_fields
    command = bind(ArchiveCommand, {key: config[key] for key in own})
    module, bound, how = open_plain({key: value for key, value in config.items() if key not in own})
    check_results(module, bound, how)
    store, results = open_store(), Path(how.results)
    asked = Plan(store, list(asked_for(module, bound, how).values())).order
    if unknown := sorted(set(command.stages) - known_stages()):
        planned = ", ".join(dict.fromkeys(stage.name for stage in asked))
        raise UserError(f"there is no stage {unknown[0]!r}; those of {bound.name} are {planned}.")
    wanted = [stage for stage in asked if stage.name in command.stages]
    finished = [stage for stage in wanted if store.record(stage) is not None]
    file = results / bound.name / bound.scale / ARCHIVE
    elsewhere = {
        digits_of(folder) for other in archives(results) if other != file for folder in packed_folders(other)
    }
    own_stages = Plan(store, list(module.targets(bound).values())).order
    with alone(file.absolute()), _contents(file) as folder:
        gone = _let_go(folder, {digits_of(store.folder(stage)) for stage in own_stages})
        done = archive(store, [s for s in finished if digits_of(store.folder(s)) not in elsewhere], folder)
        if done.copied or gone:
            pack(folder, file)
    _tell(wanted, finished)
    there = len(finished) - len(done.copied) - len(done.already_there)
    print(
        visible(
            f"{file}: {len(done.copied)} added, {len(done.already_there)} there already, {there} in archives "
            f"of other tables, {gone} let go, which nothing asks for any more"
        )
    )


@contextmanager
def _contents(file: Path) -> Iterator[Path]:
    """A temporary folder with what is in an archive, which may not exist yet."""
    if file.exists():
        with unpacked(file) as folder:
            yield folder
    else:
        with tempfile.TemporaryDirectory() as place:
            yield Path(place)


def _let_go(folder: Path, asked_for: set[str]) -> int:
    """Delete what the experiment no longer has among its stages; returns how many."""
    gone = [artifact for artifact in archived_folders(folder) if digits_of(artifact) not in asked_for]
    for artifact in gone:
        shutil.rmtree(artifact)
    return len(gone)


def _tell(wanted: Sequence[Stage], finished: Sequence[Stage]) -> None:
    there = Counter(stage.name for stage in finished)
    for name, count in Counter(stage.name for stage in wanted).items():
        print(f"{name}: {there[name]} of {count} finished")
