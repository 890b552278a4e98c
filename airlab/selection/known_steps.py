"""Generated traces whose steps are of known kinds, with what was measured of them and what meets the eye."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airlab.errors import UserError
from airlab.schema.traces import Aggregation
from airlab.selection.aggregation import StepLosses, group_by_trace, step_influence, trace_scores
from airlab.text.traces import read_traces

INFLUENCE = "influence"
"""The score in question; every other one is a baseline or a control."""

AGGREGATIONS: tuple[Aggregation, ...] = (
    Aggregation(kind="trace"),
    Aggregation(kind="token_mean"),
    Aggregation(kind="step_mean"),
    Aggregation(kind="maximum"),
    Aggregation(kind="top_k_mean"),
)


@dataclass(frozen=True)
class KnownSteps:
    """Columns of one length, a row a step.

    Attributes:
        trace, level, task, variant, kind: names. The task is the generator.
        feeds: bool, whether the step finds a number that leads to the answer.
        scores: float64 each, by name.
        joined: rows left out, as they hold more than one known step.
    """

    trace: np.ndarray
    level: np.ndarray
    task: np.ndarray
    variant: np.ndarray
    kind: np.ndarray
    feeds: np.ndarray
    scores: dict[str, np.ndarray]
    joined: int = 0


@dataclass(frozen=True)
class KnownTraces:
    """Columns of one length, a row a trace; see `KnownSteps`."""

    trace: np.ndarray
    task: np.ndarray
    variant: np.ndarray
    scores: dict[str, np.ndarray]


def read_known(traces: Path, measured: Mapping[str, Path]) -> tuple[KnownSteps, KnownTraces]:
    """What is known of each measured step and trace, and all scores of them.

    Args:
        traces: the folder of generated traces.
        measured: folders of step losses, all of these traces and of one base model, by the score's name:
            `INFLUENCE`, and controls under other reference models.

    Raises:
        UserError: a table is of other steps than the first.
    """
    tables = {name: _losses(folder) for name, folder in measured.items()}
    main = tables[INFLUENCE]
    for name, table in tables.items():
        if not table.select(["unit_id", "n_tokens"]).equals(main.select(["unit_id", "n_tokens"])):
            raise UserError(f"the losses for {name} are of other steps; measure both of the same traces.")
    losses = {name: StepLosses.of_table(table) for name, table in tables.items()}
    origins = {row["unit_id"]: row for row in pq.read_table(traces / "problems.parquet").to_pylist()}
    return _steps(traces, main, losses, origins), _traces(losses, origins)


def _losses(folder: Path) -> pa.Table:
    steps, losses = (pq.read_table(folder / f"{name}.parquet") for name in ("steps", "losses"))
    if not steps["unit_id"].equals(losses["unit_id"]):
        raise RuntimeError("steps and their losses are not in one order")
    for column in ("start", "end"):
        losses = losses.append_column(column, steps[column])
    return losses


def _steps(
    traces: Path, table: pa.Table, losses: Mapping[str, StepLosses], origins: Mapping[str, dict[str, object]]
) -> KnownSteps:
    rows: dict[str, list[tuple[int, int, int]]] = {}
    for number, (trace, start, end) in enumerate(
        zip(*(table[name].to_pylist() for name in ("parent_id", "start", "end")), strict=True)
    ):
        rows.setdefault(trace, []).append((number, start, end))
    kept, names, feeds, seen = [], [], [], []
    for trace in read_traces(traces / "traces.parquet"):
        origin = origins[trace.unit_id]
        ends, kinds = trace.step_ends or (), trace.step_kinds or ()
        fed = origin["step_feeds"]
        assert isinstance(fed, list)
        known = dict(zip(zip((0, *ends[:-1]), ends, strict=True), zip(kinds, fed, strict=True), strict=True))
        for number, start, end in rows.get(trace.unit_id, ()):
            if (start, end) not in known:
                continue
            kind, feeding = known[start, end]
            kept.append(number)
            names.append((trace.unit_id, trace.domain, origin["task"], origin["variant"], kind))
            feeds.append(feeding)
            seen.append((*_visible(trace.response[start:end]), start / len(trace.response)))
    at = np.array(kept, dtype=np.int64)
    trace_of, level, task, variant, kinds_of = np.array(names, dtype=object).reshape(-1, 5).T
    visible = np.array(seen, dtype=np.float64).reshape(-1, 3).T
    tokens = losses[INFLUENCE].n_tokens.astype(np.float64)
    base, entropy = losses[INFLUENCE].loss_sum_base, table["entropy_sum_base"].to_numpy()
    least = Aggregation().least_loss
    influence = {name: step_influence(some, least)[at] for name, some in losses.items()}
    scores = {
        INFLUENCE: influence.pop(INFLUENCE),
        "loss_gap": ((losses[INFLUENCE].loss_sum_ref - base) / tokens)[at],
        "tokens": tokens[at],
        "entropy": (entropy / tokens)[at],
        "base_loss": (base / tokens)[at],
        "digits": visible[0],
        "equals": visible[1],
        "position": visible[2],
        **influence,
    }
    return KnownSteps(
        trace_of,
        level,
        task,
        variant,
        kinds_of,
        np.array(feeds, dtype=bool),
        scores,
        joined=table.num_rows - len(kept),
    )


def _visible(text: str) -> tuple[float, float]:
    """(Share of digits among the characters that are not white space, whether there is an equals sign.)"""
    characters = "".join(text.split())
    return sum(c.isdigit() for c in characters) / max(len(characters), 1), float("=" in characters)


def _traces(losses: Mapping[str, StepLosses], origins: Mapping[str, dict[str, object]]) -> KnownTraces:
    ids, member = group_by_trace(losses[INFLUENCE].parent_id)
    main = losses[INFLUENCE]
    tokens, base = (np.bincount(member, weights=column) for column in (main.n_tokens, main.loss_sum_base))
    scores = {f"{INFLUENCE}_{way.kind}": trace_scores(main, way)[1] for way in AGGREGATIONS}
    scores |= {"tokens": tokens, "base_loss": base / tokens}
    for name, some in losses.items():
        if name != INFLUENCE:
            scores[f"{name}_trace"] = trace_scores(some, AGGREGATIONS[0])[1]
    return KnownTraces(
        trace=ids,
        task=np.array([origins[name]["task"] for name in ids], dtype=object),
        variant=np.array([origins[name]["variant"] for name in ids], dtype=object),
        scores=scores,
    )
