"""Everybody in the benchmark computes the same thing, and on fair batches."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from scorebench.contenders import RIVALS, buffers, engine_losses, judge_losses, padded_losses
from scorebench.subjects import Subject, log_normal_documents


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject.random("tiny")


@pytest.fixture(scope="module")
def documents(subject: Subject) -> list[np.ndarray]:
    return log_normal_documents(1500, subject.config.vocab_size, cap=256)


@pytest.fixture(scope="module")
def judged(subject: Subject, documents: list[np.ndarray]) -> np.ndarray:
    model = subject.ordinary("cpu", torch.float32, "sdpa")
    return judge_losses(model, subject.mask.heads, documents, lambda passes: None)


def test_masking_matters_here(judged: np.ndarray) -> None:
    """Or the agreements below would say nothing about the reference model."""
    assert np.mean(np.abs(judged[1] / judged[0] - 1)) > 1e-3


def test_airlab_agrees_with_the_judge(
    subject: Subject, documents: list[np.ndarray], judged: np.ndarray
) -> None:
    lm = subject.engine("cpu", torch.float32)
    assert engine_losses(lm, subject.reference(lm), documents, 512) == pytest.approx(judged, rel=1e-5)


@pytest.mark.parametrize("name", sorted(set(RIVALS) - {"sdpa-compiled"}))
def test_every_rival_agrees_with_the_judge(
    subject: Subject, documents: list[np.ndarray], judged: np.ndarray, name: str
) -> None:
    rival = RIVALS[name]
    base = subject.ordinary("cpu", torch.float32, rival.attention)
    batches = rival.batches(documents, 512, rival.batch)
    sums = padded_losses([base, subject.masked(base)], documents, batches, padding_mask=rival.padding_mask)
    seen = ~np.isnan(sums[0])
    assert sorted(np.flatnonzero(seen)) == sorted(i for batch in batches for i in batch)
    assert sums[:, seen] == pytest.approx(judged[:, seen], rel=1e-5)


def test_the_judge_masks_the_heads_it_is_told(subject: Subject, documents: list[np.ndarray]) -> None:
    model = subject.ordinary("cpu", torch.float32, "sdpa")
    sums = [judge_losses(model, [(3, head)], documents[:3], lambda passes: None) for head in (0, 1)]
    assert (sums[0][0] == sums[1][0]).all()
    assert (sums[0][1] != sums[1][1]).all()


def test_buffers_hold_everything_in_order_within_their_size() -> None:
    lengths = [5, 5, 5, 20, 1, 9, 4]
    found = list(buffers(lengths, 10))
    assert [i for group in found for i in group] == list(range(len(lengths)))
    assert all(len(group) == 1 or sum(lengths[i] for i in group) <= 10 for group in found)


def padding(batches: Sequence[Sequence[int]], documents: Sequence[np.ndarray]) -> float:
    """Share of padded positions."""
    lengths = [[len(documents[i]) for i in batch] for batch in batches]
    return 1 - sum(map(sum, lengths)) / sum(max(batch) * len(batch) for batch in lengths)


def test_more_sorting_means_less_padding() -> None:
    """Rivals differ as their names say: arriving, sorted within a buffer, sorted over everything."""
    documents = log_normal_documents(1_300_000, 260)
    shares = []
    for name in ("sdpa", "sdpa-sorted", "sdpa-sorted-all"):
        rival = RIVALS[name]
        batches = rival.batches(documents, 65_536, rival.batch)
        chosen = [i for batch in batches for i in batch]
        assert len(set(chosen)) == len(chosen)
        assert sum(len(documents[i]) for i in chosen) == pytest.approx(rival.tokens, rel=0.35)
        assert all(len(batch) <= rival.batch for batch in batches)
        shares.append(padding(batches, documents))
    assert shares[0] > shares[1] + 0.05 > shares[2] + 0.1


def test_documents_are_of_the_stated_kind() -> None:
    lengths = [len(d) for d in log_normal_documents(1_300_000, 260)]
    assert np.mean(lengths) == pytest.approx(770, rel=0.05)
    assert max(lengths) == 4096
    assert min(lengths) >= 32
