"""The score of a head that looks at random: by simulation, and by layer where windows differ."""

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from airlab.heads.detect import _chance, score_probes
from airlab.heads.probes import Probe
from airlab.models.load import wrap
from airlab.schema.heads import Detection


def probe(length: int = 40) -> Probe:
    """The value stands near the start; one of its tokens is repeated inside it."""
    tokens = np.random.default_rng(0).integers(10, 60, length)
    tokens[3:7] = tokens[-4:] = [1, 2, 1, 3]
    return Probe(tokens, (length - 4, length), (3, 7))


@pytest.mark.parametrize("window", [None, 38, 35, 4])
@pytest.mark.parametrize("needle_only", [False, True])
def test_chance_is_what_random_looks_score(window, needle_only):
    asked = probe()
    allowed = np.ones(40, dtype=bool)
    if needle_only:
        allowed[:] = False
        allowed[3:7] = True
    draw = np.random.default_rng(1)
    trials, copied = 20_000, {1: 0, 2: 0, 3: 0}
    rows = np.arange(35, 39)
    first = np.zeros(4, dtype=int) if window is None else np.maximum(rows - window + 1, 0)
    looks = draw.integers(first, rows + 1, size=(trials, 4))
    hit = (asked.tokens[looks] == asked.tokens[36:]) & allowed[looks]
    for kind in copied:
        copied[kind] = (hit & (asked.tokens[36:] == kind)).any(axis=1).sum()
    simulated = sum(copied.values()) / 3 / trials
    assert _chance(asked, np.array([1, 2, 3]), allowed, window) == pytest.approx(simulated, abs=0.004)


def test_a_layer_that_cannot_see_the_needle_has_no_chance():
    config = Qwen2Config(
        vocab_size=64, hidden_size=32, intermediate_size=16, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, use_sliding_window=True, sliding_window=8,
        max_window_layers=2,
    )  # fmt: skip
    torch.manual_seed(0)
    lm = wrap(Qwen2ForCausalLM(config).eval().requires_grad_(False), None, digest="x")
    (result,) = score_probes(lm, [probe()], Detection(argmax_in="needle"), 64)
    assert result.chance.shape == (3,)
    assert result.chance[0] == result.chance[1] > 0.02
    assert result.chance[2] == 0
