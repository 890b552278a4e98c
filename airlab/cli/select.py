"""`airlab select`: the best share of scored documents or traces."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airlab.cli.bind import bind
from airlab.cli.origin import ORIGIN, of_selection, origin_of
from airlab.cli.outputs import IDENTITY, already_there, check_output, write_output
from airlab.cli.scores_in import refuse_repeated, scores_in_parts
from airlab.schema.base import Frozen
from airlab.schema.selection import Selecting
from airlab.selection.on_disk import UnitsOnDisk
from airlab.selection.selectors import make_selector
from airlab.store.files import Files
from airlab.store.fingerprint import canonical
from airlab.terminal import visible

_SCHEMA = pa.schema(
    [("id", pa.string()), ("domain", pa.string()), ("n_tokens", pa.int64()), ("score", pa.float64())]
)


class SelectCommand(Frozen):
    """What `configs/select.yaml` binds to."""

    scores: str
    selector: dict[str, Any]
    share: float
    unit: str
    scope: str
    seed: int
    output: str


def run(config: Mapping[str, Any]) -> None:
    """Select and write the chosen rows with their scores."""
    command = bind(SelectCommand, config)
    output, scores = Path(command.output), Path(command.scores)
    check_output(output, ".parquet")
    selecting = bind(Selecting, {"share": command.share, "unit": command.unit, "scope": command.scope})
    selector = make_selector(command.selector)
    with scores_in_parts(scores) as given, UnitsOnDisk() as units:
        made_from = (Files.of(scores), selector, selecting, command.seed)
        identity = hashlib.sha256(canonical(made_from)).hexdigest()
        if already_there(output, identity):
            print(visible(f"{output} is there already, made from the same scores and settings."))
            return
        for part in given.parts(not selector.ALONE):
            units.add(part.unit_id, part.domain, part.n_tokens, selector.score(part, command.seed))
        if (repeated := units.repeated()) is not None:
            refuse_repeated(scores, repeated, given.what)
        chosen = units.choose(selecting)
        origin = of_selection(command.selector, selecting.model_dump(), command.seed, origin_of(scores))
        facts = {IDENTITY: identity, ORIGIN: json.dumps(origin)}
        write_output(output, lambda path: _write(path, units, chosen, facts))
        for told in units.by_domain(chosen):
            print(
                visible(
                    f"{told.domain}: {told.units} of {told.of_units} {given.what}, "
                    f"{told.tokens} of {told.of_tokens} tokens"
                )
            )
        print(visible(f"{output}: {int(chosen.sum())} of {len(units)} {given.what}"))


def _write(path: Path, units: UnitsOnDisk, chosen: np.ndarray, facts: dict[str, str]) -> None:
    with pq.ParquetWriter(path, _SCHEMA.with_metadata(facts)) as writer:
        for part in units.parts(chosen):
            writer.write_table(pa.table(list(part), schema=writer.schema))
