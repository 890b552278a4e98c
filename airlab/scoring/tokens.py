"""Numbers of each token of one text: its losses, and where one head looks when it is predicted."""

from dataclasses import dataclass

import numpy as np

from airlab.heads.attended import attended_by
from airlab.models.load import CausalLM
from airlab.models.packed import Reference
from airlab.scoring.losses import token_losses, windows


@dataclass(frozen=True)
class TokenNumbers:
    """Of one sequence of n tokens; entry i of each array belongs to predicted token i + 1.

    Attributes:
        base, reference: float32 [n - 1], nats.
        attended: int64 [n - 1], the position that the head attends to most in the base model, in the row that
            predicts the token; counted from the sequence's first token.
        windows: the first tokens of all windows but the first. What comes after one of them in its window
            sees nothing before it.
    """

    base: np.ndarray
    reference: np.ndarray
    attended: np.ndarray
    windows: tuple[int, ...]


def measure_tokens(
    lm: CausalLM,
    reference: Reference,
    head: tuple[int, int],
    ids: np.ndarray,
    *,
    window_tokens: int,
    tokens_per_batch: int,
) -> TokenNumbers:
    """Per-token numbers of a sequence; one longer than a window is cut as in scoring (see `windows`).

    The losses are those that scoring adds up. Where the head looks takes another pass of the base model.

    Args:
        head: layer and query head, from 0.
        ids: integer array of at least two token ids.
    """
    cuts = windows(len(ids), window_tokens)
    pieces = [ids[start:end] for start, end in cuts]
    base, found = (np.full(len(ids) - 1, np.nan, dtype=np.float32) for _ in range(2))
    attended = np.empty(len(ids) - 1, dtype=np.int64)
    for number, losses in token_losses(lm, reference, pieces, tokens_per_batch):
        start, end = cuts[number]
        base[start : end - 1], found[start : end - 1] = losses.base, losses.reference
    for (start, end), piece in zip(cuts, pieces, strict=True):
        attended[start : end - 1] = start + attended_by(lm, piece, *head)[:-1]
    return TokenNumbers(base, found, attended, tuple(start for start, _ in cuts[1:]))
