"""Per-token losses of documents under the base model and the reference model, in one packed pass.

The only expensive thing in this project, so it keeps sums and counts from which every score can
be computed later. Logits exist for a small block of tokens at a time only.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from airlab.models.load import CausalLM
from airlab.models.packed import Reference, hidden_states

_LOGITS_BYTES = {"cpu": 24 << 20, "cuda": 1 << 30}
"""Logits in memory at once. On CPUs the C library reuses blocks below 32 MiB; larger ones are mapped
and cleared anew every time, which costs more than the arithmetic."""


@dataclass(frozen=True)
class TokenLosses:
    """Losses of one token sequence of n tokens; entry i belongs to predicted token i + 1.

    Attributes:
        base, reference: float32 [n - 1], nats.
        entropy: float32 [n - 1], nats, of the base model's prediction.
    """

    base: np.ndarray
    reference: np.ndarray
    entropy: np.ndarray


def windows(length: int, window_tokens: int) -> list[tuple[int, int]]:
    """Cut a sequence into windows [start, end) that overlap by one token.

    The shared token is context in the later window and a prediction in the earlier one, so every
    token but the first of the document is predicted exactly once.
    """
    step = window_tokens - 1
    return [(s, min(s + window_tokens, length)) for s in range(0, max(length - 1, 1), step)]


def _plan(lengths: Sequence[int], tokens_per_batch: int) -> Iterator[list[int]]:
    """Group sequences into batches of at most `tokens_per_batch` tokens, first-fit, longest first."""
    room: list[int] = []
    bins: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        for b, free in enumerate(room):
            if lengths[i] <= free:
                bins[b].append(i)
                room[b] -= lengths[i]
                break
        else:
            bins.append([i])
            room.append(tokens_per_batch - lengths[i])
    yield from bins


@torch.inference_mode()
def _losses_and_entropy(
    projection: torch.nn.Module, states: torch.Tensor, targets: torch.Tensor, vocabulary: int, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-likelihood of each target and entropy of each prediction, float32 [rows]."""
    rows_at_once = max(1, _LOGITS_BYTES[states.device.type] // (4 * vocabulary))
    losses, entropies = [], []
    for rows, wanted in zip(states.split(rows_at_once), targets.split(rows_at_once), strict=True):
        logits = projection(rows).float()
        top = logits.amax(dim=-1, keepdim=True)
        chosen = logits.gather(1, wanted[:, None])[:, 0]
        # One exponential serves both: with e = exp(l - max), log Z = max + log sum e, and the
        # entropy is log Z - (sum e l) / (sum e).
        shares = torch.sub(logits, top, out=None if entropy else logits).exp_()
        total = shares.sum(dim=-1)
        log_z = top[:, 0] + total.log()
        losses.append(log_z - chosen)
        if entropy:
            # Not a dot product per row: those sum tens of thousands of terms one after the other.
            entropies.append(log_z - shares.mul_(logits).sum(dim=-1) / total)
    return torch.cat(losses), torch.cat(entropies) if entropy else torch.empty(0)


@torch.inference_mode()
def token_losses(
    lm: CausalLM, reference: Reference, sequences: Sequence[np.ndarray], tokens_per_batch: int
) -> Iterator[tuple[int, TokenLosses]]:
    """Losses of each sequence, in no particular order.

    Args:
        lm: the base model.
        reference: the same model with heads masked.
        sequences: integer arrays of at least two token ids, each scored on its own.
        tokens_per_batch: packed tokens of one forward pass; a longer sequence gets a pass of its
            own. Affects results by rounding only.

    Yields:
        (index into `sequences`, losses).
    """
    projection, vocabulary = lm.model.get_output_embeddings(), lm.geometry.vocabulary
    for batch in _plan([len(s) for s in sequences], tokens_per_batch):
        packed = torch.as_tensor(
            np.concatenate([sequences[i] for i in batch]).astype(np.int64), device=lm.device
        )
        lengths = [len(sequences[i]) for i in batch]
        states = hidden_states(lm, packed, lengths, reference)
        ends = np.cumsum(lengths)
        predicting = torch.ones(len(packed), dtype=torch.bool)
        predicting[ends - 1] = False  # the last token of a sequence predicts nothing
        where = predicting.nonzero()[:, 0].to(lm.device)
        targets = packed[where + 1]
        base, entropy = _losses_and_entropy(projection, states[0, where], targets, vocabulary, entropy=True)
        masked, _ = _losses_and_entropy(projection, states[1, where], targets, vocabulary, entropy=False)
        cuts = np.cumsum([n - 1 for n in lengths])[:-1]
        columns = [np.split(t.cpu().numpy(), cuts) for t in (base, masked, entropy)]
        for i, *losses in zip(batch, *columns, strict=True):
            yield i, TokenLosses(*losses)


@dataclass(frozen=True)
class LossSums:
    """Sufficient statistics of one document.

    Attributes:
        n_tokens: predicted tokens.
        base, reference, entropy: float64 sums over them, nats.
    """

    n_tokens: int
    base: float
    reference: float
    entropy: float


def measure_documents(
    lm: CausalLM,
    reference: Reference,
    documents: Sequence[np.ndarray],
    *,
    window_tokens: int,
    tokens_per_batch: int,
    advance: Callable[[float], None] = lambda documents: None,
) -> list[LossSums]:
    """Loss sums of each document, in order; documents longer than a window are cut (see `windows`).

    Args:
        documents: integer arrays of at least two token ids.
        advance: told of documents as they are done; a window counts as its share of a document.
    """
    cuts = [windows(len(ids), window_tokens) for ids in documents]
    pieces = [(d, s, e) for d, cut in enumerate(cuts) for s, e in cut]
    parts: list[LossSums | None] = [None] * len(pieces)
    sequences = [documents[d][s:e] for d, s, e in pieces]
    for i, losses in token_losses(lm, reference, sequences, tokens_per_batch):
        sums = [float(a.sum(dtype=np.float64)) for a in (losses.base, losses.reference, losses.entropy)]
        parts[i] = LossSums(len(losses.base), *sums)
        advance(1 / len(cuts[pieces[i][0]]))
    totals = [[0, 0.0, 0.0, 0.0] for _ in documents]
    for (d, _, _), part in zip(pieces, parts, strict=True):
        assert part is not None
        for k, value in enumerate((part.n_tokens, part.base, part.reference, part.entropy)):
            totals[d][k] += value
    return [LossSums(int(n), b, r, e) for n, b, r, e in totals]
