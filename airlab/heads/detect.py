"""Retrieval score of every head.

AttentionInfluence, Section 3, after Wu et al. (arXiv 2404.15574): at the step that produces a
token, a head copies it if the position it attends to most, among all visible ones, holds that
same token. The score is the share of the answer's distinct tokens that the head copies, averaged
over probes.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from airlab.heads.attended import most_attended
from airlab.heads.probes import Probe
from airlab.heads.results import ProbeResult
from airlab.models.load import CausalLM
from airlab.models.packed import hidden_states
from airlab.schema.heads import Detection


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
def _generate(lm: CausalLM, probe: Probe) -> Probe:
    """The probe with its answer replaced by the model's greedy continuation of the same length.

    Every token costs a pass over all tokens before it, as packed passes keep no cache: about as many
    times the cost of teacher forcing as the answer has tokens.
    """
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
        attended = most_attended(lm, [p.tokens for p in pack], rows)
        predicted = projection(attended.states).argmax(-1).cpu().numpy()
        predicted_of = np.split(predicted, np.cumsum([len(r) for r in rows])[:-1])
        for probe, answer, where, guess in zip(pack, asked, attended.positions, predicted_of, strict=True):
            yield _score(probe, answer, where, attended.windows, guess, detection)


def _score(
    probe: Probe,
    answer: np.ndarray,
    where: np.ndarray,
    windows: Sequence[int | None],
    guess: np.ndarray,
    detection: Detection,
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
    chance = {window: _chance(probe, kinds, allowed, window) for window in set(windows)}
    return ProbeResult(recall, np.array([chance[w] for w in windows]), float(np.mean(guess == answer)))


def _chance(probe: Probe, kinds: np.ndarray, allowed: np.ndarray, window: int | None) -> float:
    """Share of `kinds` that random looks at the last `window` visible positions copy."""
    start, end = probe.answer
    produced = probe.tokens[start:end]
    by_chance = []
    for kind in kinds:
        copies = np.flatnonzero((probe.tokens == kind) & allowed)
        # The row that produces the token at position t sees positions up to t - 1.
        last = start + np.flatnonzero(produced == kind)
        first = np.zeros_like(last) if window is None else np.maximum(last - window, 0)
        seen = np.searchsorted(copies, last) - np.searchsorted(copies, first)
        by_chance.append(1 - np.prod(1 - seen / (last - first)))
    return float(np.mean(by_chance))
