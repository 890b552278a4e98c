"""From the losses of steps to scores of steps, and from those to one score a trace (AIR).

How a sample's score follows from its steps' is not stated in what is known of the paper, so each way has a
name. All are formulas over sums: none costs a model pass.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from airlab.errors import UserError
from airlab.schema.traces import Aggregation


@dataclass(frozen=True)
class StepLosses:
    """Columns of a LossTable of steps, all of one length.

    Attributes:
        parent_id: the trace of each step; a trace's steps need not lie together.
        n_tokens: int64, predicted tokens, at least 1.
        loss_sum_base, loss_sum_ref: float64 sums over them, nats.
    """

    parent_id: np.ndarray
    n_tokens: np.ndarray
    loss_sum_base: np.ndarray
    loss_sum_ref: np.ndarray

    @classmethod
    def of_table(cls, table: pa.Table) -> Self:
        """The columns of a LossTable."""
        names = ("parent_id", "n_tokens", "loss_sum_base", "loss_sum_ref")
        return cls(*(table[name].to_numpy(zero_copy_only=False) for name in names))


def step_influence(steps: StepLosses, least_loss: float) -> np.ndarray:
    """Relative loss increase (L_ref - L_base) / L_base of each step, float64 [steps].

    Args:
        least_loss: nats a token that the denominator counts for at least; 0 is the plain formula.

    Raises:
        UserError: a base loss of zero with `least_loss` 0.
    """
    return _relative(steps.loss_sum_base, steps.loss_sum_ref, steps.n_tokens, least_loss)


def trace_scores(steps: StepLosses, aggregation: Aggregation) -> tuple[np.ndarray, np.ndarray]:
    """One score a trace.

    Returns:
        (trace ids [traces], in the order in which they first occur; scores, float64 [traces]).

    Raises:
        UserError: see `step_influence`.
    """
    ids, members = group_by_trace(steps.parent_id)
    tokens = _sums(members, steps.n_tokens)
    if aggregation.kind == "trace":
        base, reference = _sums(members, steps.loss_sum_base), _sums(members, steps.loss_sum_ref)
        return ids, _relative(base, reference, tokens, aggregation.least_loss)
    influence = step_influence(steps, aggregation.least_loss)
    if aggregation.kind == "token_mean":
        return ids, _sums(members, influence * steps.n_tokens) / tokens
    if aggregation.kind == "step_mean":
        return ids, _sums(members, influence) / np.bincount(members)
    k = 1 if aggregation.kind == "maximum" else aggregation.k
    best = np.lexsort((-influence, members))  # by trace, the highest first
    grouped = members[best]
    place = np.arange(len(best)) - np.searchsorted(grouped, grouped)
    top = best[place < k]
    return ids, _sums(members[top], influence[top]) / np.bincount(members[top])


def sum_by_trace(table: pa.Table) -> pa.Table:
    """A LossTable of traces from one of their steps, traces in the order in which they first occur."""
    ids, members = group_by_trace(table["parent_id"].to_numpy(zero_copy_only=False))
    _, first = np.unique(members, return_index=True)
    columns: dict[str, np.ndarray | pa.ChunkedArray] = {
        "unit_id": ids,
        "parent_id": ids,
        "domain": table["domain"].take(pa.array(first)),
        "n_tokens": _sums(members, table["n_tokens"].to_numpy()).astype(np.int64),
    }
    for name in ("loss_sum_base", "loss_sum_ref", "entropy_sum_base"):
        columns[name] = _sums(members, table[name].to_numpy())
    return pa.table(columns)


def group_by_trace(parent_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(ids [traces] in the order in which they first occur, the number in `ids` of each step's trace)."""
    names, first, inverse = np.unique(parent_id, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(names), dtype=np.int64)
    number[order] = np.arange(len(names))
    return names[order], number[inverse]


def _sums(members: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.bincount(members, weights=values)


def _relative(base: np.ndarray, reference: np.ndarray, tokens: np.ndarray, least_loss: float) -> np.ndarray:
    least = np.maximum(base, least_loss * tokens)
    if (least <= 0).any():
        raise UserError(
            f"{int((least <= 0).sum())} unit(s) have a base loss of zero, for which a relative increase is "
            "not defined; set aggregation.least_loss above zero."
        )
    return (reference - base) / least
