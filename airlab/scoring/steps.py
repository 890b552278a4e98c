"""Losses of the steps of reasoning traces: the documents' losses, added up by step."""

from collections.abc import Callable, Sequence

import numpy as np

from airlab.models.load import CausalLM
from airlab.models.packed import Reference
from airlab.scoring.losses import LossSums, TokenLosses, token_losses, windows
from airlab.text.trace_tokens import TraceTokens

_Sums = list[float]


def measure_steps(
    lm: CausalLM,
    reference: Reference,
    traces: Sequence[TraceTokens],
    *,
    window_tokens: int,
    tokens_per_batch: int,
    advance: Callable[[float], None] = lambda traces: None,
) -> list[list[LossSums]]:
    """Loss sums of each step of each trace, in order, from one packed pass.

    Each token's loss is conditioned on everything before it in the trace, prompt included. Tokens of the
    prompt are predicted and not counted. A trace longer than a window is cut as a document is (see
    `windows`); its later steps are then conditioned on their own window alone. The step of a trace that has
    only one and no prompt has the losses of a document of the same tokens.

    Args:
        advance: told of traces as they are done; a window counts as its share of a trace.
    """
    cuts = [windows(len(trace.ids), window_tokens) for trace in traces]
    pieces = [(t, s, e) for t, some in enumerate(cuts) for s, e in some]
    parts: list[list[_Sums]] = [[] for _ in pieces]
    sequences = [traces[t].ids[s:e] for t, s, e in pieces]
    for i, losses in token_losses(lm, reference, sequences, tokens_per_batch):
        t, s, _ = pieces[i]
        parts[i] = _by_step(losses, s, traces[t])
        advance(1 / len(cuts[t]))
    totals = [[[0.0, 0.0, 0.0] for _ in trace.steps] for trace in traces]
    for (t, _, _), part in zip(pieces, parts, strict=True):  # in order, whatever order the passes had
        for total, sums in zip(totals[t], part, strict=True):
            for k, value in enumerate(sums):
                total[k] += value
    return [
        [LossSums(step.n_tokens, *sums) for step, sums in zip(trace.steps, sums_of_trace, strict=True)]
        for trace, sums_of_trace in zip(traces, totals, strict=True)
    ]


def _by_step(losses: TokenLosses, window: int, trace: TraceTokens) -> list[_Sums]:
    """Sums over the tokens of each step that a window beginning at token `window` predicts."""
    first = window + 1
    found = []
    for step in trace.steps:
        inside = slice(max(step.first_token - first, 0), max(step.first_token + step.n_tokens - first, 0))
        arrays = (losses.base, losses.reference, losses.entropy)
        found.append([float(a[inside].sum(dtype=np.float64)) for a in arrays])
    return found
