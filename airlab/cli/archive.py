"""`airlab archive`: what an experiment's tables are read from leaves the store, to be kept or carried."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airlab.cli.bind import bind
from airlab.cli.experiment import asked_for, open_plain
from airlab.cli.outputs import open_store
from airlab.errors import UserError
from airlab.schema.base import Frozen
from airlab.stages.known import known_stages
from airlab.store.archive import archive
from airlab.store.plan import Plan
from airlab.terminal import visible


class ArchiveCommand(Frozen):
    """What `configs/archive.yaml` binds to, besides the experiment itself."""

    output: str
    """The folder, laid out as a store is."""
    stages: tuple[str, ...]
    """Stages whose artifacts are copied."""


def run(config: Mapping[str, Any]) -> None:
    """Copy what is finished, and tell how much of it is not."""
    own = ArchiveCommand.model_fields
    command = bind(ArchiveCommand, {key: config[key] for key in own})
    module, bound, how = open_plain({key: value for key, value in config.items() if key not in own})
    store = open_store()
    order = Plan(store, list(asked_for(module, bound, how).values())).order
    if unknown := sorted(set(command.stages) - known_stages()):
        planned = ", ".join(dict.fromkeys(stage.name for stage in order))
        raise UserError(f"there is no stage {unknown[0]!r}; those of {bound.name} are {planned}.")
    wanted = [stage for stage in order if stage.name in command.stages]
    finished = [stage for stage in wanted if store.record(stage) is not None]
    done = archive(store, finished, Path(command.output))
    for name in dict.fromkeys(stage.name for stage in wanted):
        counts = [sum(stage.name == name for stage in some) for some in (finished, wanted)]
        print(f"{name}: {counts[0]} of {counts[1]} finished")
    n_bytes = sum(record.n_bytes for record in (*done.copied, *done.already_there))
    told = (
        f"{command.output}: {len(finished)} of {len(wanted)} artifacts, {n_bytes:,} bytes; "
        f"{len(done.copied)} copied, {len(done.already_there)} already there"
    )
    print(visible(told))
    if missing := len(wanted) - len(finished):
        print(f"{missing} not finished and not archived; airlab run makes what is missing")
