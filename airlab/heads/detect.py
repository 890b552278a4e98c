"""Retrieval score of every head, without ever materialising an attention matrix.

AttentionInfluence, Section 3, after Wu et al. (arXiv 2404.15574): at the step that produces a
token, a head copies it if the position it attends to most, among all visible ones, holds that
same token. The score is the share of the answer's distinct tokens that the head copies, averaged
over probes. Only the rows that predict the answer are needed, so only those are compared.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from airlab.heads.probes import Probe
from airlab.models.load import CausalLM
from airlab.models.packed import hidden_states
from airlab.schema.heads import Detection

_ANSWERED = 0.5
"""Share of the answer's tokens a model must predict for a probe to count as answered."""


@dataclass(frozen=True)
class ProbeResult:
    """What one probe says about every head.

    Attributes:
        recall: float64 [layers, heads], share of the answer's distinct tokens that were copied.
        chance: the same share for a head that looks at a random visible position.
        accuracy: share of the answer's tokens that the model predicts.
    """

    recall: np.ndarray
    chance: float
    accuracy: float

    @property
    def answered(self) -> bool:
        """Whether the model retrieved the value at all."""
        return self.accuracy >= _ANSWERED


def _packs(probes: Iterable[Probe], tokens_per_batch: int) -> Iterator[list[Probe]]:
    pack: list[Probe] = []
    for probe in probes:
        if pack and sum(len(p.tokens) for p in pack) + len(probe.tokens) > tokens_per_batch:
            yield pack
            pack = []
        pack.append(probe)
    if pack:
        yield pack


@torch.inference_mode()
def most_attended(
    lm: CausalLM, sequences: Sequence[np.ndarray], rows: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], torch.Tensor]:
    """The most-attended position of chosen rows, for every head.

    Args:
        sequences: token ids of each sequence.
        rows: for each sequence, the int64 positions [r] whose attention is wanted.

    Returns:
        For each sequence an int64 array [layers, heads, r] of positions inside that sequence
        (ties go to the earliest), and the last hidden states of all rows [sum r, hidden].
    """
    device, geometry = lm.device, lm.geometry
    lengths = [len(s) for s in sequences]
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    found = [np.zeros((geometry.layers, geometry.heads, len(r)), dtype=np.int64) for r in rows]
    row_index = [torch.as_tensor(r, device=device) for r in rows]

    def observe(layer: int, query: torch.Tensor, key: torch.Tensor, scale: float, window: int | None) -> None:
        for i, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            picked = query[0, :, start + row_index[i]].float()
            keys = key[0, :, start : start + length].float()
            heads, count, size = picked.shape
            grouped = picked.reshape(keys.shape[0], -1, size)
            logits = (grouped @ keys.transpose(1, 2) * scale).reshape(heads, count, length)
            distance = row_index[i][:, None] - torch.arange(length, device=device)
            hidden = distance < 0
            if window is not None:
                hidden |= distance >= window
            found[i][layer] = logits.masked_fill(hidden, -torch.inf).argmax(-1).cpu().numpy()

    tokens = torch.as_tensor(np.concatenate(sequences), device=device)
    states = hidden_states(lm, tokens, lengths, observer=observe)[0]
    wanted = torch.cat([int(start) + index for start, index in zip(starts, row_index, strict=True)])
    return found, states[wanted]


@torch.inference_mode()
def _generate(lm: CausalLM, probe: Probe) -> Probe:
    """The probe with its answer replaced by the model's greedy continuation of the same length."""
    start, end = probe.answer
    tokens = list(probe.tokens[:start])
    projection = lm.model.get_output_embeddings()
    for _ in range(end - start):
        states = hidden_states(lm, torch.as_tensor(np.array(tokens), device=lm.device), [len(tokens)])
        tokens.append(int(projection(states[0, -1]).argmax()))
    return Probe(np.array(tokens, dtype=np.int64), probe.answer, probe.needle)


def score_probes(
    lm: CausalLM, probes: Iterable[Probe], detection: Detection, tokens_per_batch: int
) -> Iterator[ProbeResult]:
    """Score every head on each probe, in the probes' order.

    Args:
        tokens_per_batch: probes are packed into forward passes of about this many tokens; has no
            effect on the result beyond rounding.
    """
    projection = lm.model.get_output_embeddings()
    for pack in _packs(probes, tokens_per_batch):
        asked = [p.tokens[slice(*p.answer)] for p in pack]
        if detection.decoding == "generated":
            pack = [_generate(lm, p) for p in pack]
        # The row that produces the token at position t is row t - 1.
        rows = [np.arange(*p.answer) - 1 for p in pack]
        positions, states = most_attended(lm, [p.tokens for p in pack], rows)
        predicted = projection(states).argmax(-1).cpu().numpy()
        predicted_of = np.split(predicted, np.cumsum([len(r) for r in rows])[:-1])
        for probe, answer, where, guess in zip(pack, asked, positions, predicted_of, strict=True):
            yield _score(probe, answer, where, guess, detection)


def _score(
    probe: Probe, answer: np.ndarray, where: np.ndarray, guess: np.ndarray, detection: Detection
) -> ProbeResult:
    produced = probe.tokens[slice(*probe.answer)]
    kinds = np.unique(answer)
    copied = probe.tokens[where] == produced
    allowed = np.ones(len(probe.tokens), dtype=bool)
    if detection.argmax_in == "needle":
        allowed[:] = False
        allowed[slice(*probe.needle)] = True
        copied &= allowed[where]
    # |g ∩ k| / |k| over distinct tokens: a token counts once, however often it was copied.
    hit = [(copied & (produced == kind)).any(axis=-1) for kind in kinds]
    recall = np.mean(hit, axis=0)
    by_chance = []
    for kind in kinds:
        steps = np.flatnonzero(produced == kind)
        visible = [slice(0, probe.answer[0] + step) for step in steps]
        miss = [1 - np.mean((probe.tokens[v] == kind) & allowed[v]) for v in visible]
        by_chance.append(1 - np.prod(miss))
    return ProbeResult(recall, float(np.mean(by_chance)), float(np.mean(guess == answer)))
