"""Reasoning traces as tokens with weights, and their packing into training sequences.

A trace is one document: prompt, response and the end of the turn. The prompt is read and weighs nothing. Of
what the chat template puts after the response, the tokens up to the first special one are trained on, since
that is where generation is to stop; what follows is dropped. Where there is none, as after a plain text, the
tokenizer's end-of-text token is put there. These closing tokens weigh 1 whatever the steps weigh: no score
says anything about them.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from airlab.errors import UserError
from airlab.randomness import derive_seed
from airlab.text.trace_tokens import TraceTokens
from airlab.training.packing import NO_TARGET
from airlab.training.weighted_loss import check_token_weights

if TYPE_CHECKING:
    from airlab.training.teacher import TeacherTable

TOKENS = "tokens.bin"
WEIGHTS = "weights.bin"
INDEX = "index.parquet"
FACTS = "training.json"
TOKENS_DTYPE = "<i4"
WEIGHTS_DTYPE = "<f4"
INDEX_SCHEMA = pa.schema(
    [
        ("unit_id", pa.string()),
        ("domain", pa.string()),
        ("offset", pa.int64()),
        ("n_tokens", pa.int64()),
        ("n_predicted", pa.int64()),
    ]
)
"""Where a trace's tokens lie; of them, the response's and the closing ones are predicted."""

_OPEN = 16
"""Sequences that a trace may still be put into: more would tie long traces to short ones of far away."""


def vocabulary_digest(tokenizer: Any) -> str:
    """sha-256 of all tokens with their numbers: numbers mean the same where it is the same."""
    return hashlib.sha256(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode()).hexdigest()


def closing_tokens(tokenizer: Any, closing: np.ndarray) -> np.ndarray:
    """What is trained on after a response; int32.

    Args:
        closing: int32, what the template puts there.

    Raises:
        UserError: there is nothing that could end a turn.
    """
    special = [number for number, token in tokenizer.added_tokens_decoder.items() if token.special]
    ends = np.flatnonzero(np.isin(closing, special))
    if len(ends):
        return closing[: ends[0] + 1]
    if tokenizer.eos_token_id is None:
        raise UserError(
            "neither the chat template nor the tokenizer has a token that ends an answer, so none could be "
            "learned; use another tokenizer."
        )
    return np.append(closing, np.int32(tokenizer.eos_token_id)).astype(np.int32)


def token_weights(
    trace: TraceTokens, closing: np.ndarray, steps: Sequence[float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Ids (int32) of a whole trace, and the weight (float32) with which each of them is predicted.

    Args:
        closing: of `closing_tokens`.
        steps: the weight of each step's tokens; None weighs them all 1.
    """
    weights = np.zeros(len(trace.ids) + len(closing), dtype=np.float32)
    for step, weight in zip(trace.steps, [1.0] * len(trace.steps) if steps is None else steps, strict=True):
        weights[step.first_token : step.first_token + step.n_tokens] = weight
    weights[len(trace.ids) :] = 1.0
    return np.concatenate([trace.ids, closing]), weights


@dataclass(frozen=True, eq=False)
class TraceData:
    """What `BuildTraining` left, opened; arrays stay on disk.

    `offsets`, `lengths` and `n_predicted` are int64 [traces].
    """

    unit_ids: tuple[str, ...]
    offsets: np.ndarray
    lengths: np.ndarray
    n_predicted: np.ndarray
    """A trace's last tokens, those that weigh nothing among them."""
    tokens: np.ndarray
    weights: np.ndarray
    """With which each token is predicted; zero in prompts."""
    context: int
    """No trace is longer."""
    sha256: str
    """Of tokens, weights and lengths: what a resumed training run must find again."""
    vocabulary: str
    """Of the tokenizer, see `vocabulary_digest`."""

    @classmethod
    def open(cls, folder: Path) -> "TraceData":
        """Read a folder. Raises UserError when its weights cannot be trained with."""
        facts = json.loads((folder / FACTS).read_text())
        index = pq.read_table(folder / INDEX)
        tokens = np.memmap(folder / TOKENS, dtype=TOKENS_DTYPE, mode="r")
        weights = np.memmap(folder / WEIGHTS, dtype=WEIGHTS_DTYPE, mode="r")
        check_token_weights(tokens, weights)
        return cls(
            unit_ids=tuple(index["unit_id"].to_pylist()),
            offsets=index["offset"].to_numpy(),
            lengths=index["n_tokens"].to_numpy(),
            n_predicted=index["n_predicted"].to_numpy(),
            tokens=tokens,
            weights=weights,
            context=facts["context"],
            sha256=facts["sha256"],
            vocabulary=facts["vocabulary"],
        )

    def ids(self, trace: int) -> np.ndarray:
        """A trace's tokens, int32 [its length]."""
        ids: np.ndarray = self.tokens[self.offsets[trace] : self.offsets[trace] + self.lengths[trace]]
        return ids


class TraceDataWriter:
    """Appends traces to open files."""

    def __init__(self, tokens: Any, weights: Any) -> None:
        """Two binary streams."""
        self._streams = (tokens, weights)
        self._digest = hashlib.sha256()
        self._rows: list[tuple[str, str, int, int, int]] = []
        self.n_tokens = self.n_predicted = 0

    def add(self, unit_id: str, domain: str, ids: np.ndarray, weights: np.ndarray, n_predicted: int) -> None:
        """One trace."""
        self._digest.update(f"{unit_id}\0{len(ids)}\0".encode())
        for stream, values in zip(
            self._streams, (ids.astype(TOKENS_DTYPE), weights.astype(WEIGHTS_DTYPE)), strict=True
        ):
            stream.write(values.tobytes())
            self._digest.update(values.tobytes())
        self._rows.append((unit_id, domain, self.n_tokens, len(ids), n_predicted))
        self.n_tokens += len(ids)
        self.n_predicted += n_predicted

    @property
    def sha256(self) -> str:
        """Of everything added."""
        return self._digest.hexdigest()

    def index(self) -> pa.Table:
        """One row a trace."""
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(INDEX_SCHEMA)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, INDEX_SCHEMA, strict=True)]
        return pa.table(arrays, schema=INDEX_SCHEMA)


def pack(lengths: np.ndarray, order: Sequence[int], context: int) -> Iterator[list[int]]:
    """Whole traces into sequences of at most `context` tokens; a trace goes where it fits first.

    Yields:
        the traces of each sequence, in the order in which the sequences were begun.
    """
    begun: list[list[int]] = []
    room: list[int] = []
    for trace in order:
        n_tokens = int(lengths[trace])
        fitting = next((i for i, left in enumerate(room) if left >= n_tokens), None)
        if fitting is not None:
            begun[fitting].append(trace)
            room[fitting] -= n_tokens
            continue
        begun.append([trace])
        room.append(context - n_tokens)
        if len(begun) > _OPEN:
            room.pop(0)
            yield begun.pop(0)
    yield from begun


class PackedTraces:
    """Training sequences of `context` positions, epoch after epoch, for `WeightedSummedLoss`.

    Traces are neither cut nor do they see each other: positions restart with each. A trace's place in its
    epoch follows from a hash of (seed, epoch, id) alone, so arms share the noise of the order. The last batch
    is filled up with empty sequences, so that every trace is trained on equally often.
    """

    def __init__(
        self,
        data: TraceData,
        epochs: int,
        batch_sequences: int,
        seed: int,
        teacher: "TeacherTable | None" = None,
    ) -> None:
        self.context = data.context
        self._data = data
        self._teacher = teacher
        self._members: list[list[int]] = []
        for epoch in range(epochs):
            order = sorted(
                range(len(data.unit_ids)),
                key=lambda t: derive_seed(seed, "fine-tuning order", epoch, data.unit_ids[t]),
            )
            self._members += pack(data.lengths, order, self.context)
        self._members += [[]] * (-len(self._members) % batch_sequences)
        self.n_sequences = len(self._members)
        n_tokens = [int(data.lengths[traces].sum()) for traces in self._members]
        self._n_tokens = [0, *accumulate(n_tokens)]
        weight = [
            math.fsum(data.weights[offset + 1 : offset + length].tolist())
            for offset, length in zip(data.offsets.tolist(), data.lengths.tolist(), strict=True)
        ]
        self._weight = [math.fsum(weight[trace] for trace in traces) for traces in self._members]

    def tensors(self, sequences: np.ndarray) -> tuple[torch.Tensor, ...]:
        """Input ids, positions, labels (int64) and weights (float32), each [sequences, longest of them].

        With a teacher also its tokens (int64) and log-probabilities (float32) of what each position predicts,
        [sequences, longest, k] and [sequences, longest, k + 1].

        `labels` are what each position predicts, NO_TARGET where that weighs nothing; `weights` are theirs.
        What follows the last trace of a sequence is one more document, of which nothing is predicted.
        """
        members = [self._members[sequence] for sequence in sequences.tolist()]
        width = max(1, *(int(self._data.lengths[traces].sum()) for traces in members))
        shape = (len(members), width)
        ids, labels = np.zeros(shape, dtype=np.int64), np.full(shape, NO_TARGET, dtype=np.int64)
        positions, weights = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.float32)
        for row, traces in enumerate(members):
            at = 0
            for trace in traces:
                offset, length = int(self._data.offsets[trace]), int(self._data.lengths[trace])
                own = slice(offset, offset + length)
                ids[row, at : at + length] = self._data.tokens[own]
                positions[row, at : at + length] = np.arange(length)
                weights[row, at : at + length - 1] = self._data.weights[own][1:]
                labels[row, at : at + length - 1] = self._data.tokens[own][1:]
                at += length
            positions[row, at:] = np.arange(width - at)
        labels[weights == 0] = NO_TARGET
        taught = () if self._teacher is None else self._taught(self._teacher, members, width)
        return tuple(torch.from_numpy(values) for values in (ids, positions, labels, weights, *taught))

    def _taught(
        self, teacher: "TeacherTable", members: list[list[int]], width: int
    ) -> tuple[np.ndarray, np.ndarray]:
        top_k = teacher.tokens.shape[1]
        tokens = np.zeros((len(members), width, top_k), dtype=np.int64)
        log_probs = np.zeros((len(members), width, top_k + 1), dtype=np.float32)
        for row, traces in enumerate(members):
            end = -1  # the last token of a trace is predicted one position before it
            for trace in traces:
                end += int(self._data.lengths[trace])
                n_predicted, first = int(self._data.n_predicted[trace]), int(teacher.first[trace])
                at, of = slice(end - n_predicted, end), slice(first, first + n_predicted)
                tokens[row, at], log_probs[row, at] = teacher.tokens[of], teacher.log_probs[of]
        return tokens, log_probs

    def n_targets(self, first: int, last: int) -> float:
        """The sum of all weights in the sequences from `first` up to, not including, `last`."""
        return math.fsum(self._weight[first:last])

    def n_tokens(self, first: int, last: int) -> int:
        """Tokens of the traces in these sequences; what fills them up is none."""
        return self._n_tokens[last] - self._n_tokens[first]
