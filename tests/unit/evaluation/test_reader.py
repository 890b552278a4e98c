"""Likelihoods as lm-eval's own model class computes them, with less work."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("lm_eval")

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from airlab.evaluation import reader
from airlab.evaluation.harness import load
from airlab.evaluation.reader import Reader

PAIRS = [
    ("one", " two"),
    ("one two", " three four five"),
    ("a long prompt with a good deal of words in it", " short"),
    ("one", " two three four"),
    ("one two three", " four"),  # the text of the one before, divided elsewhere
    ("one", " two"),
    ("", " a prompt of nothing"),
    *((f"item {n} of a list" * (1 + n % 3), f" answer {n}" * (1 + n % 4)) for n in range(12)),
]


def asked(kind: Any, checkpoint: Path, batch_size: int) -> tuple[list[tuple[float, bool]], list[float]]:
    """Of all pairs, and of their texts as a whole; some need several windows."""
    model = load(kind, checkpoint, batch_size, "cpu")
    pairs = [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(PAIRS)]
    whole = [
        Instance("loglikelihood_rolling", {}, ("".join(pair) * 5,), index) for index, pair in enumerate(PAIRS)
    ]
    return model.loglikelihood(pairs), model.loglikelihood_rolling(whole)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
@pytest.mark.parametrize("held", [None, 3])
def test_likelihoods_are_those_of_the_harness(
    checkpoint: Path, batch_size: int, held: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if held is not None:
        monkeypatch.setitem(reader._LOGITS_AT_ONCE, "cpu", held * 400)
    ours, theirs = asked(Reader, checkpoint, batch_size), asked(HFLM, checkpoint, 4)
    np.testing.assert_allclose(
        [value for value, _ in ours[0]], [value for value, _ in theirs[0]], rtol=1e-5, atol=1e-5
    )
    assert [greedy for _, greedy in ours[0]] == [greedy for _, greedy in theirs[0]]
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-5)


def test_what_greedy_decoding_gives_is_seen(checkpoint: Path) -> None:
    model = load(Reader, checkpoint, 4, "cpu")
    ids = model.tok_encode("one two three")
    with torch.no_grad():
        best = int(model.model(torch.tensor([ids])).logits[0, -1].argmax())
    found = model._loglikelihood_tokens([(None, ids, [best]), (None, ids, [best - 1])])
    assert [greedy for _, greedy in found] == [True, False]


def test_a_text_is_read_once_and_no_logits_of_prompts_are_made(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(Reader, checkpoint, 64, "cpu")
    read = []
    logits = model._logits

    def noted(rows: torch.Tensor, kept: int) -> torch.Tensor:
        read.append((tuple(rows.shape), kept))
        return logits(rows, kept)

    monkeypatch.setattr(model, "_logits", noted)
    ids = list(range(1, 21))
    model._loglikelihood_tokens([(None, ids[:15], ids[15:]), (None, ids[:18], ids[18:]), (None, ids, [3])])
    assert read == [((2, 20), 6)]


def test_a_family_that_makes_all_logits_gives_the_same(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_some = asked(Reader, checkpoint, 4)
    monkeypatch.setattr(reader, "_keeps_some", lambda model: False)
    without = asked(Reader, checkpoint, 4)
    np.testing.assert_allclose([v for v, _ in with_some[0]], [v for v, _ in without[0]], rtol=1e-5)
    np.testing.assert_allclose(with_some[1], without[1], rtol=1e-5)


def test_an_empty_answer_has_no_likelihood(checkpoint: Path) -> None:
    with pytest.raises(AssertionError, match="empty answer"):
        load(Reader, checkpoint, 4, "cpu")._loglikelihood_tokens([(None, [1, 2], [])])
