"""Attention between the tokens of packed traces, for training on CPUs.

The library masks a whole row's square of scores, nearly all of which lies between traces. Here each trace is
attended to alone and causally, which leaves a sixth of the work where three traces fill a row. GPUs keep the
library's own: there many small launches would cost more than the masked part.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from transformers import AttentionInterface

from airlab.models.attention import attend_segment

NAME = "airlab_training"
"""What a model's `attn_implementation` must be for this function to be called."""

_LENGTHS: ContextVar[list[list[int]]] = ContextVar("airlab_trace_lengths")


@contextmanager
def traces_at(position_ids: torch.Tensor) -> Iterator[None]:
    """Keep the traces of the forward passes inside the block apart: one begins wherever a position is 0.

    Args:
        position_ids: int64 [rows, tokens]; each row begins with a trace.
    """
    n_tokens = torch.tensor([position_ids.shape[1]])
    token = _LENGTHS.set(
        [torch.diff(torch.nonzero(row == 0)[:, 0], append=n_tokens).tolist() for row in position_ids.cpu()]
    )
    try:
        yield
    finally:
        _LENGTHS.reset(token)


def traces_again() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For a layer that is computed twice: in the backward pass its traces are those of now."""
    return nullcontext(), _lengths_at(_LENGTHS.get(None))


@contextmanager
def _lengths_at(lengths: list[list[int]] | None) -> Iterator[None]:
    token = _LENGTHS.set(lengths or [])
    try:
        yield
    finally:
        _LENGTHS.reset(token)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one layer; [rows, heads, tokens, size] in, [rows, tokens, heads, size] out.

    Variants that this does not compute are refused when a model is loaded, see `check_exactness`.
    """
    rows = []
    for row, lengths in enumerate(_LENGTHS.get()):
        traces = (tensor[row : row + 1].split(lengths, dim=2) for tensor in (query, key, value))
        pieces = [attend_segment(q, k, v, scaling, sliding_window) for q, k, v in zip(*traces, strict=True)]
        rows.append(torch.cat(pieces, dim=2))
    return torch.cat(rows).transpose(1, 2), None


AttentionInterface.register(NAME, _attention)
