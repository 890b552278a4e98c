"""`airlab weigh`: scored steps of traces to the weights of their tokens in fine-tuning."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airlab.cli.bind import bind
from airlab.cli.outputs import IDENTITY, already_there, check_output, write_output
from airlab.cli.scores_in import check_columns, read_scores, read_table
from airlab.errors import UserError
from airlab.schema.base import Frozen
from airlab.schema.step_weights import StepWeights
from airlab.selection.selectors import make_selector
from airlab.selection.step_weights import check_weights, of_selected, step_weights
from airlab.store.files import Files
from airlab.store.fingerprint import canonical
from airlab.terminal import visible
from airlab.text.records import is_text


class WeighCommand(Frozen):
    """What `configs/weigh.yaml` binds to."""

    scores: str
    selector: dict[str, Any]
    weights: StepWeights
    selected: str | None
    seed: int
    output: str


def run(config: Mapping[str, Any]) -> None:
    """Weigh the steps of all traces, or of the selected ones, and write the table."""
    command = bind(WeighCommand, config)
    output, scores = Path(command.output), Path(command.scores)
    check_output(output, ".parquet")
    selector = make_selector(command.selector)
    table, units, _ = read_scores(scores, of_steps=True)
    selected = None if command.selected is None else Path(command.selected)
    chosen = None if selected is None else _selected(selected)
    files = (Files.of(scores), None if selected is None else Files.of(selected))
    made_from = (*files, selector, command.weights, command.seed)
    identity = hashlib.sha256(canonical(made_from)).hexdigest()
    if already_there(output, identity):
        print(visible(f"{output} is there already, made from the same scores and settings."))
        return
    trace, tokens, score = table["trace"].to_numpy(), units.n_tokens, selector.score(units, command.seed)
    steps = table.select(["id", "trace", "start", "end", "n_tokens"])
    if chosen is not None:
        kept = of_selected(trace, chosen)
        steps, trace, tokens, score = steps.filter(pa.array(kept)), trace[kept], tokens[kept], score[kept]
    weights = step_weights(trace, tokens, score, command.weights)
    check_weights(tokens, weights)
    found = steps.append_column("weight", pa.array(weights)).replace_schema_metadata({IDENTITY: identity})
    write_output(output, lambda path: pq.write_table(found, path))
    print(
        visible(
            f"{output}: {len(weights)} steps of {len(np.unique(trace))} traces, weights from "
            f"{weights.min():.3g} to {weights.max():.3g}, on average {_mean(tokens, weights):.3g} a token"
        )
    )


def _selected(path: Path) -> np.ndarray:
    made_by = "give a table made by `airlab select`"
    if not path.is_file():
        raise UserError(f"selected={path} does not exist; make it with `airlab select output={path}`.")
    table = read_table(path, made_by)
    check_columns(path, table, {"id": is_text}, made_by)
    ids: np.ndarray = np.unique(table["id"].to_numpy(zero_copy_only=False))
    return ids


def _mean(tokens: np.ndarray, weights: np.ndarray) -> float:
    return float((tokens * weights).sum() / tokens.sum())
