"""Which position every head attends to most, without ever materialising an attention matrix.

Only chosen rows, or one head, are compared with the keys they see, beside the ordinary forward pass.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from airlab.models.geometry import Geometry
from airlab.models.load import CausalLM
from airlab.models.packed import hidden_states

_LOGITS = 2**26
"""Attention logits that are held at a time: 256 MB."""


@dataclass(frozen=True)
class MostAttended:
    """Where chosen rows of packed sequences look.

    Attributes:
        positions: for each sequence int64 [layers, heads, rows], positions inside that sequence;
            ties go to the earliest.
        windows: for each layer the number of positions that a row sees, itself included; None for all.
        states: last hidden states of all chosen rows, [sum of rows, hidden].
    """

    positions: list[np.ndarray]
    windows: list[int | None]
    states: torch.Tensor


@dataclass(frozen=True)
class _Group:
    """Some of the sequences, padded to one length, compared in one batched product.

    Attributes:
        counts: chosen rows of each of the S sequences.
        rows: int64 [S, R], positions of the chosen rows inside their sequences, padded with 0.
        row_index: int64 [S * R], the same in the packed stream.
        key_index: int64 [S * L], every position of every sequence in the packed stream; padding
            repeats a sequence's last position.
        found: int32 [layers, KV heads, S, query heads a KV head, R], the result.
    """

    counts: tuple[int, ...]
    rows: torch.Tensor
    row_index: torch.Tensor
    key_index: torch.Tensor
    found: torch.Tensor
    _hidden: dict[int | None, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        device: torch.device,
        geometry: Geometry,
        starts: np.ndarray,
        lengths: np.ndarray,
        rows: Sequence[np.ndarray],
    ) -> "_Group":
        counts = tuple(len(r) for r in rows)
        padded = np.zeros((len(rows), max(counts)), dtype=np.int64)
        for i, r in enumerate(rows):
            padded[i, : len(r)] = r
        keys = starts[:, None] + np.minimum(np.arange(lengths.max()), lengths[:, None] - 1)
        shape = (geometry.layers, geometry.kv_heads, len(rows), geometry.heads // geometry.kv_heads)
        return cls(
            counts,
            torch.from_numpy(padded).to(device),
            torch.from_numpy((starts[:, None] + padded).ravel()).to(device),
            torch.from_numpy(keys.ravel()).to(device),
            torch.zeros((*shape, padded.shape[1]), dtype=torch.int32, device=device),
        )

    def hidden(self, window: int | None) -> torch.Tensor:
        """What the rows do not see: bool [S, 1, R, L], the padding included, as it lies behind every row."""
        if window not in self._hidden:
            length = len(self.key_index) // len(self.counts)
            distance = self.rows[:, None, :, None] - torch.arange(length, device=self.rows.device)
            hidden = distance < 0
            self._hidden[window] = hidden if window is None else hidden | (distance >= window)
        return self._hidden[window]

    def observe(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, scale: float, window: int | None
    ) -> None:
        """Fill in one layer's result: about ten kernels, whatever the number of sequences, and no waiting."""
        _, kv_heads, sequences, shared, rows = self.found.shape
        picked = query[0].index_select(1, self.row_index).unflatten(1, (sequences, rows))
        picked = picked.unflatten(0, (kv_heads, shared)).transpose(1, 2)
        picked = picked.reshape(kv_heads * sequences, shared * rows, -1)
        keys = key[0].index_select(1, self.key_index).reshape(kv_heads * sequences, -1, key.shape[-1])
        # Float32 whatever the model computes in, as near-ties decide which position wins.
        logits = torch.bmm(picked.float() * scale, keys.float().transpose(1, 2))
        logits = logits.view(kv_heads, sequences, shared, rows, -1)
        logits.masked_fill_(self.hidden(window), -torch.inf)
        self.found[layer] = logits.argmax(-1)

    def positions(self) -> Iterator[np.ndarray]:
        """The result for each sequence; waits for the device."""
        found = self.found.cpu().numpy().astype(np.int64)
        for i, count in enumerate(self.counts):
            yield found[:, :, i, :, :count].reshape(len(found), -1, count)


def _parts(lengths: Sequence[int], rows: Sequence[np.ndarray], heads: int) -> Iterator[slice]:
    """Runs of sequences whose padded logits stay within the limit; at least one sequence each."""
    begin, longest, most = 0, 0, 0
    for i, (length, r) in enumerate(zip(lengths, rows, strict=True)):
        longest, most = max(longest, length), max(most, len(r))
        if i > begin and (i + 1 - begin) * heads * most * longest > _LOGITS:
            yield slice(begin, i)
            begin, longest, most = i, length, len(r)
    yield slice(begin, len(lengths))


@torch.inference_mode()
def most_attended(lm: CausalLM, sequences: Sequence[np.ndarray], rows: Sequence[np.ndarray]) -> MostAttended:
    """The most-attended position of chosen rows, for every head, in one forward pass.

    Args:
        sequences: token ids of each sequence.
        rows: for each sequence, the int64 positions [r] whose attention is wanted.
    """
    device, geometry = lm.device, lm.geometry
    lengths = np.array([len(s) for s in sequences])
    starts = np.cumsum(lengths) - lengths
    groups = [
        _Group.of(device, geometry, starts[part], lengths[part], rows[part])
        for part in _parts(lengths.tolist(), rows, geometry.heads)
    ]
    windows: list[int | None] = [None] * geometry.layers

    def observe(layer: int, query: torch.Tensor, key: torch.Tensor, scale: float, window: int | None) -> None:
        windows[layer] = window
        for group in groups:
            group.observe(layer, query, key, scale, window)

    tokens = torch.as_tensor(np.concatenate(sequences), device=device)
    states = hidden_states(lm, tokens, lengths.tolist(), observer=observe)[0]
    wanted = np.concatenate([start + r for start, r in zip(starts, rows, strict=True)])
    chosen = states[torch.as_tensor(wanted, device=device)]
    return MostAttended([p for group in groups for p in group.positions()], windows, chosen)


@torch.inference_mode()
def attended_by(lm: CausalLM, sequence: np.ndarray, layer: int, head: int) -> np.ndarray:
    """The position that each row of one sequence attends to most in one head, int64 [tokens].

    Ties go to the earliest. Only the rows that fit into the limit are compared at a time.
    """
    position = torch.arange(len(sequence), device=lm.device)
    found = torch.zeros_like(position)

    def observe(at: int, query: torch.Tensor, key: torch.Tensor, scale: float, window: int | None) -> None:
        if at != layer:
            return
        keys = key[0, head * key.shape[1] // query.shape[1]].float()
        for rows in position.split(max(1, _LOGITS // len(sequence))):
            # As in `_Group.observe`: float32 whatever the model computes in.
            logits = (query[0, head].index_select(0, rows).float() * scale) @ keys.T
            distance = rows[:, None] - position
            hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
            found[rows] = logits.masked_fill_(hidden, -torch.inf).argmax(-1)

    tokens = torch.as_tensor(sequence.astype(np.int64), device=lm.device)
    hidden_states(lm, tokens, [len(sequence)], observer=observe)
    return found.cpu().numpy()
