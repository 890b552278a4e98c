"""Examples of what attention influence rates high, middling and low, with token maps."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from airlab.reporting.token_maps import EXAMPLES, EXAMPLES_FORMAT, TokenMap
from airlab.schema.machine import Machine
from airlab.selection.aggregation import sum_by_trace
from airlab.stages.map_tokens import MapDocuments, MapTraces, read_maps
from airlab.stages.measure_losses import MeasureLosses
from airlab.stages.measure_steps import MeasureSteps
from airlab.stages.score_traces import ScoreTraces
from airlab.stages.score_units import ScoreUnits
from airlab.store.durable import written
from airlab.store.plan import Plan
from airlab.store.stage import Stage
from airlab.store.store import Store
from airlab.text import reasoning

Texts = Literal["generated", "all"]
"""Which texts a file of examples holds."""

METHOD = "attention_influence"

SHOWN_TOKENS = 500
"""Of an example, at most; its numbers are of the whole."""

_DIGITS = 4

GENERATORS = (reasoning.PACKAGE,)
"""Packages whose texts are computed where they are read. All others hold what somebody wrote: results are
published, and that is not ours to publish."""


def gather_examples(
    targets: Mapping[str, Stage], store: Store, machine: Machine, *, texts: Texts, again: str
) -> dict[str, Any] | None:
    """What `examples.json` holds; None where nothing finished was scored by attention influence.

    Which documents or traces are examples follows from their ranks alone. Their tokens are measured by a
    stage of the store, so that asking again costs nothing.

    Args:
        targets: an experiment's, by name (`targets(config)`).
        texts: `generated` leaves out what is not of one of `GENERATORS`.
        again: the command that shows all texts.
    """
    scored = _scored(targets, store)
    if scored is None:
        return None
    scores, losses = scored
    rows = _rows(scores, losses, store)
    chosen = [_described(row, texts, again) for row in _chosen(rows)]
    maps = _maps(scores, losses, [row["id"] for row in chosen if row["why_no_text"] is None])
    found: dict[str, TokenMap] = {}
    if maps is not None:
        Plan(store, [maps]).run(machine)
        found = {shown.name: shown for shown in read_maps(store.folder(maps))}
    units = "traces" if isinstance(scores, ScoreTraces) else "documents"
    return {
        "format": EXAMPLES_FORMAT,
        "rule": (
            f"Of each domain the {units} of the highest, the middle and the lowest attention influence: the "
            "first, the middle (of an even number the higher) and the last rank, ties by id, none left out. "
            f"At most the first {SHOWN_TOKENS} tokens are shown; numbers are of the whole."
        ),
        "examples": [{**row, "map": _compact(found.get(row["id"]))} for row in chosen],
    }


def write_examples(folder: Path, gathered: Mapping[str, Any]) -> None:
    """Write `examples.json` into a results folder, an example a line."""
    head = {name: value for name, value in gathered.items() if name != "examples"}
    lines = ",\n".join(_json(example) for example in gathered["examples"])
    with written(folder / EXAMPLES) as temporary:
        temporary.write_text(
            f'{_json(head)[:-1]},"examples":[\n{lines}\n]}}\n', encoding="utf-8", newline="\n"
        )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _scored(
    targets: Mapping[str, Stage], store: Store
) -> tuple[ScoreUnits | ScoreTraces, MeasureLosses | MeasureSteps] | None:
    """The method's first scores: those of the default setting and the first seed."""
    for stage in Plan(store, list(targets.values())).order:
        if isinstance(stage, ScoreUnits | ScoreTraces) and getattr(stage.selector, "kind", "") == METHOD:
            losses = stage.losses
            if isinstance(losses, MeasureLosses | MeasureSteps) and all(
                store.find(needed) is not None for needed in (stage, losses, _source(losses))
            ):
                return stage, losses
    return None


def _source(losses: MeasureLosses | MeasureSteps) -> Stage:
    return losses.traces if isinstance(losses, MeasureSteps) else losses.corpus


def _rows(
    scores: ScoreUnits | ScoreTraces, losses: MeasureLosses | MeasureSteps, store: Store
) -> list[dict[str, Any]]:
    """Every scored unit with its sums and where it comes from."""
    sums = pq.read_table(store.folder(losses) / "losses.parquet")
    if isinstance(losses, MeasureSteps):
        sums = sum_by_trace(sums)
    measured = {row["unit_id"]: row for row in sums.to_pylist()}
    file = "traces.parquet" if isinstance(losses, MeasureSteps) else "documents.parquet"
    with pq.ParquetFile(store.folder(_source(losses)) / file) as table:
        names = [n for n in ("unit_id", "source", "member", "licence") if n in table.schema_arrow.names]
        where = {row["unit_id"]: row for row in table.read(columns=names).to_pylist()}
    scored = pq.read_table(store.folder(scores) / "scores.parquet", columns=["unit_id", "domain", "score"])
    return [
        {
            "domain": row["domain"],
            "id": row["unit_id"],
            **{name: where[row["unit_id"]].get(name, "") for name in ("source", "member", "licence")},
            "n_tokens": measured[row["unit_id"]]["n_tokens"],
            "loss_sum_base": round(measured[row["unit_id"]]["loss_sum_base"], _DIGITS),
            "loss_sum_ref": round(measured[row["unit_id"]]["loss_sum_ref"], _DIGITS),
            "score": row["score"],
        }
        for row in scored.to_pylist()
    ]


def _chosen(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first, the middle and the last of each domain; fewer where it has fewer."""
    chosen = []
    for domain in sorted({row["domain"] for row in rows}):
        ranked = sorted(
            (row for row in rows if row["domain"] == domain), key=lambda r: (-r["score"], r["id"])
        )
        places: dict[int, list[str]] = {}
        for place, rank in (("top", 0), ("middle", (len(ranked) - 1) // 2), ("bottom", len(ranked) - 1)):
            places.setdefault(rank, []).append(place)
        for rank, names in places.items():
            told = {"place": " and ".join(names), "rank": rank + 1, "of": len(ranked)}
            chosen.append({**ranked[rank], **told, "score": round(ranked[rank]["score"], _DIGITS)})
    return chosen


def _described(row: dict[str, Any], texts: Texts, again: str) -> dict[str, Any]:
    if texts == "all" or row["source"].split("==")[0] in GENERATORS:
        return {**row, "why_no_text": None}
    licence = f"licence {row['licence']}" if row["licence"] else "licence not recorded"
    why = f"Somebody wrote its text ({licence}): it is not published here. At home `{again}` shows it."
    return {**row, "why_no_text": why}


def _maps(
    scores: ScoreUnits | ScoreTraces, losses: MeasureLosses | MeasureSteps, ids: Sequence[str]
) -> MapDocuments | MapTraces | None:
    if not ids:
        return None
    if isinstance(losses, MeasureLosses):
        return MapDocuments.of(losses, tuple(ids))
    assert isinstance(scores, ScoreTraces)
    return MapTraces.of(losses, scores.aggregation, tuple(ids))


def _compact(shown: TokenMap | None) -> dict[str, Any] | None:
    """The beginning of a map, in few digits."""
    if shown is None:
        return None
    data = shown.beginning(SHOWN_TOKENS).to_json()
    for name in ("base", "reference"):
        data[name] = [round(loss, _DIGITS) for loss in data[name]]
    data["steps"] = [[*step[:2], *(round(number, _DIGITS) for number in step[2:])] for step in data["steps"]]
    return data
