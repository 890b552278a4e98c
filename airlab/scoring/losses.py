"""Per-token losses of documents under the base model and the reference model, in one packed pass.

The only expensive thing in this project, so it keeps sums and counts from which every score can
be computed later.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from airlab.errors import UserError
from airlab.models.load import CausalLM
from airlab.models.packed import Reference, hidden_states
from airlab.scoring.projection import position_losses


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


def _plan(lengths: Sequence[int], tokens_per_batch: int, most: int) -> list[list[int]]:
    """Group at most `most` sequences of at most `tokens_per_batch` tokens: best fit, longest first."""
    batches: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (tokens left, batch), sorted
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        tightest = bisect_left(rooms, (lengths[i],))
        if tightest < len(rooms):
            room, batch = rooms.pop(tightest)
        else:
            room, batch = tokens_per_batch, len(batches)
            batches.append([])
        batches[batch].append(i)
        if room > lengths[i] and len(batches[batch]) < most:
            insort(rooms, (room - lengths[i], batch))
    return batches


@dataclass(frozen=True)
class _Pass:
    """One forward pass, perhaps still running on the GPU.

    Attributes:
        members: indices of the packed sequences, in order; lengths: their tokens.
        columns: float32 [3, T] in host memory, see `position_losses`.
        done: when `columns` may be read; None for at once.
    """

    members: list[int]
    lengths: list[int]
    columns: torch.Tensor
    done: torch.cuda.Event | None = None

    def losses(self) -> Iterator[tuple[int, TokenLosses]]:
        if self.done is not None:
            self.done.synchronize()
        columns, start = self.columns.numpy(), 0
        for member, length in zip(self.members, self.lengths, strict=True):
            # The last position of a sequence predicts nothing.
            yield member, TokenLosses(*columns[:, start : start + length - 1])
            start += length


def _passes(
    lm: CausalLM, reference: Reference, sequences: Sequence[np.ndarray], tokens_per_batch: int
) -> Iterator[_Pass]:
    lengths = [len(s) for s in sequences]
    if lm.device.type == "cuda":
        from airlab.scoring.recorded import recorded_pass

        recorded = recorded_pass(lm, reference, max([tokens_per_batch, *lengths]))
        for members in _plan(lengths, recorded.tokens, recorded.sequences):
            yield _Pass(members, *recorded([sequences[i] for i in members]))
    else:
        projection = lm.model.get_output_embeddings()
        for members in _plan(lengths, tokens_per_batch, len(lengths)):
            packed = [len(sequences[i]) for i in members]
            tokens = torch.from_numpy(np.concatenate([sequences[i] for i in members]).astype(np.int64))
            states = hidden_states(lm, tokens, packed, reference)
            yield _Pass(members, packed, position_losses(projection, states, tokens.roll(-1)))


@torch.inference_mode()
def token_losses(
    lm: CausalLM, reference: Reference, sequences: Sequence[np.ndarray], tokens_per_batch: int
) -> Iterator[tuple[int, TokenLosses]]:
    """Losses of each sequence, in no particular order.

    While a GPU computes one pass, the results of the one before are taken apart.

    Args:
        lm: the base model.
        reference: the same model with heads masked.
        sequences: integer arrays of at least two token ids, each scored on its own.
        tokens_per_batch: packed tokens of one forward pass; a longer sequence gets a pass of its
            own. Affects results by rounding only.

    Yields:
        (index into `sequences`, losses).
    """
    running: _Pass | None = None
    for launched in _passes(lm, reference, sequences, tokens_per_batch):
        if running is not None:
            yield from running.losses()
        running = launched
    if running is not None:
        yield from running.losses()


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


def check_finite(sums: Iterable[LossSums], name: Callable[[int], str]) -> None:
    """Refuse losses that are not numbers.

    Args:
        name: what the losses with this number are of, in words.

    Raises:
        UserError: names the first.
    """
    for number, found in enumerate(sums):
        if not math.isfinite(found.base + found.reference + found.entropy):
            raise UserError(
                f"{name(number)} has a loss that is not a number; use scoring.precision=float32 or another "
                "model."
            )


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
