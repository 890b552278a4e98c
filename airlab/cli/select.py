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
from airlab.cli.scores_in import Scores, read_scores
from airlab.schema.base import Frozen
from airlab.schema.selection import Selecting
from airlab.selection.select import select
from airlab.selection.selectors import make_selector
from airlab.store.files import Files
from airlab.store.fingerprint import canonical


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
    given = read_scores(scores, of_steps=False)
    units = given.units
    identity = hashlib.sha256(canonical((Files.of(scores), selector, selecting, command.seed))).hexdigest()
    if already_there(output, identity):
        print(f"{output} is there already, made from the same scores and settings.")
        return
    score = selector.score(units, command.seed)
    chosen = select(units.unit_id, units.domain, units.n_tokens, score, selecting)
    table = pa.table(
        {
            "id": units.unit_id[chosen],
            "domain": units.domain[chosen],
            "n_tokens": units.n_tokens[chosen],
            "score": score[chosen],
        }
    )
    origin = of_selection(command.selector, selecting.model_dump(), command.seed, origin_of(scores))
    table = table.replace_schema_metadata({IDENTITY: identity, ORIGIN: json.dumps(origin)})
    write_output(output, lambda path: pq.write_table(table, path))
    _report(output, given, chosen)


def _report(output: Path, given: Scores, chosen: np.ndarray) -> None:
    units = given.units
    for domain in np.unique(units.domain):
        inside = units.domain == domain
        tokens = units.n_tokens[inside & chosen].sum(), units.n_tokens[inside].sum()
        print(
            f"{domain}: {int((inside & chosen).sum())} of {int(inside.sum())} {given.what}, "
            f"{tokens[0]} of {tokens[1]} tokens"
        )
    print(f"{output}: {int(chosen.sum())} of {len(units)} {given.what}")
