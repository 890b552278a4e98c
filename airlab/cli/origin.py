"""By what scores and selections were made: told in their files, for the cards of what is exported.

No identity is computed from it.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from airlab.schema.heads import Masking
from airlab.stages.measure_losses import MeasureLosses
from airlab.stages.measure_steps import MeasureSteps
from airlab.stages.prepare_model import Model, PrepareModel
from airlab.stages.select_units import SelectUnits
from airlab.store.files import Files
from airlab.store.fingerprint import fingerprint
from airlab.store.stage import Stage

ORIGIN = "airlab_origin"
"""The key in a Parquet file's metadata; JSON."""


def origin_of(path: Path) -> dict[str, Any] | None:
    """What an existing table says, or None if it says nothing."""
    told = (pq.read_schema(path).metadata or {}).get(ORIGIN.encode())
    return None if told is None else json.loads(told)


def of_scores(identity: str, unit: str, model: Model, heads: Path, masking: Masking) -> dict[str, Any]:
    """Of scores that a command made with a file of heads."""
    with heads.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return _scores(identity, unit, model, f"a file with the sha-256 {digest}", masking)


def of_selection(
    selector: Mapping[str, Any], selecting: Mapping[str, Any], seed: int, scores: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Of a selection, from its scores' origin."""
    return {"selector": dict(selector), **selecting, "seed": seed, "scores": scores}


def of_stage(selection: SelectUnits) -> dict[str, Any]:
    """Of a selection that an experiment made."""
    scores: Any = selection.scores  # one of the stages that score
    losses = scores.losses
    assert isinstance(losses, MeasureLosses | MeasureSteps)
    unit = "document" if isinstance(losses, MeasureLosses) else "trace"
    heads = losses.heads
    found = f"artifact {fingerprint(heads) if isinstance(heads, Stage) else heads.sha256}"
    made = _scores(fingerprint(scores), unit, losses.model, found, losses.masking)
    selector = scores.selector.model_dump(mode="json")
    return of_selection(selector, selection.selecting.model_dump(), scores.seed, made)


def _scores(identity: str, unit: str, model: Model, heads: str, masking: Masking) -> dict[str, Any]:
    return {
        "fingerprint": identity,
        "unit": unit,
        "model": model_facts(model),
        "heads": heads,
        "masking": masking.model_dump(),
    }


def model_facts(model: Model) -> dict[str, Any]:
    """What a model is to whoever reads of it: a local one is its content, not its place."""
    source = model.source if isinstance(model, PrepareModel) else model
    if isinstance(source, Files):
        return {"kind": "local", "sha256": source.sha256}
    if isinstance(source, Stage):
        return {"kind": "trained", "fingerprint": fingerprint(source)}
    return source.model_dump(mode="json")
