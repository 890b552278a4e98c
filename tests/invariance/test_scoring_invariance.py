"""Scores depend on the text and the model, and on nothing else."""

import numpy as np
import pytest
import torch

from airlab.heads.mask import HeadMask
from airlab.scoring.influence import attention_influence
from airlab.scoring.losses import LossSums, measure_documents, windows

MASK = HeadMask(((1, 0), (2, 3), (3, 5)))


def corpus(count: int = 14) -> list[np.ndarray]:
    draw = np.random.default_rng(3)
    return [draw.integers(0, 97, int(draw.integers(2, 70))) for _ in range(count)]


def measure(lm, documents, mask=MASK, window_tokens=128, tokens_per_batch=96) -> list[LossSums]:
    reference = mask.reference(lm.device)
    return measure_documents(
        lm, reference, documents, window_tokens=window_tokens, tokens_per_batch=tokens_per_batch
    )


def assert_same(a: list[LossSums], b: list[LossSums], rtol: float = 1e-6) -> None:
    for x, y in zip(a, b, strict=True):
        assert x.n_tokens == y.n_tokens
        np.testing.assert_allclose(
            (x.base, x.reference, x.entropy), (y.base, y.reference, y.entropy), rtol=rtol
        )


def test_packed_equals_one_by_one(any_family):
    documents = corpus()
    alone = [measure(any_family, [d])[0] for d in documents]
    assert_same(measure(any_family, documents, tokens_per_batch=1000), alone)


@pytest.mark.parametrize("tokens_per_batch", [1, 64, 10_000])
def test_batch_size_does_not_matter(llama, tokens_per_batch):
    documents = corpus()
    assert_same(measure(llama, documents), measure(llama, documents, tokens_per_batch=tokens_per_batch))


def test_order_does_not_matter(llama):
    documents = corpus()
    assert_same(measure(llama, documents), measure(llama, documents[::-1])[::-1])


def test_number_of_threads_does_not_matter(llama):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = measure(llama, corpus())
        torch.set_num_threads(2)
        assert_same(one, measure(llama, corpus()))
    finally:
        torch.set_num_threads(before)


def test_masking_no_heads_gives_exactly_zero(llama):
    sums = measure(llama, corpus(), mask=HeadMask(()))
    scores = attention_influence(np.array([s.base for s in sums]), np.array([s.reference for s in sums]))
    assert (scores == 0.0).all() and all(s.base > 0 for s in sums)


def test_base_loss_does_not_depend_on_the_mask(llama):
    one, other = measure(llama, corpus()), measure(llama, corpus(), mask=HeadMask(((0, 1),)))
    for a, b in zip(one, other, strict=True):
        assert a.base == pytest.approx(b.base, rel=1e-6)
        assert a.reference != b.reference


@pytest.mark.parametrize("length", [2, 7, 8, 9, 15, 16, 64])
def test_windows_predict_every_token_but_the_first_exactly_once(length):
    predicted = [t for start, end in windows(length, 8) for t in range(start + 1, end)]
    assert predicted == list(range(1, length))
    assert all(2 <= end - start <= 8 for start, end in windows(length, 8))


def test_a_long_document_is_the_sum_of_its_windows(llama):
    document = np.random.default_rng(0).integers(0, 97, 60)
    whole = measure(llama, [document], window_tokens=16)[0]
    parts = measure(llama, [document[s:e] for s, e in windows(60, 16)])
    assert whole.n_tokens == 59
    assert whole.base == pytest.approx(sum(p.base for p in parts), rel=1e-6)
    assert whole.reference == pytest.approx(sum(p.reference for p in parts), rel=1e-6)


def test_copies_score_above_their_shuffle():
    """With the copying head planted, text that repeats itself far back suffers when it is masked."""
    from tests.unit.heads import test_planted_head as planted

    lm = planted.planted_model()
    draw = np.random.default_rng(0)
    passages = [draw.permutation(planted.TOKENS)[:30] for _ in range(8)]
    copies = [np.concatenate([p, p]) for p in passages]
    shuffles = [np.concatenate([p, draw.permutation(p)]) for p in passages]
    scores = []
    for documents in (copies, shuffles):
        sums = measure(lm, documents, mask=HeadMask((planted.PLANTED,)))
        scores.append([(s.reference - s.base) / s.base for s in sums])
    assert min(scores[0]) > max(scores[1]) + 0.1
