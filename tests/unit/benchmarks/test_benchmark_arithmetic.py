"""The work that the benchmark holds rates against is the work that a model does."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scorebench.arithmetic import ATTENTION, OUTPUT, PROJECTIONS, count, useful_flops
from scorebench.subjects import Subject


def test_operations_are_what_pytorch_counts_in_one_pass() -> None:
    subject, length = Subject.random("tiny"), 48
    model = subject.ordinary("cpu", torch.float32, "eager")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(input_ids=torch.zeros(1, length, dtype=torch.long), use_cache=False)
    counted = counter.get_total_flops()
    # One pass: every layer shared, one of the two output projections, all positions, all pairs.
    work = count(subject.config, [length], subject.config.num_hidden_layers, 4)
    expected = (
        work[PROJECTIONS].flops
        + work[ATTENTION].flops * 2 * length / (length + 1)
        + work[OUTPUT].flops / 2 * length / (length - 1)
    )
    # PyTorch also counts the angles of the rotary embedding, an outer product.
    assert counted == pytest.approx(expected, rel=2e-4)


def test_layers_below_the_first_masked_one_count_once() -> None:
    config = Subject.random("tiny").config
    lengths = [10, 33]

    def projected(first: int) -> float:
        return count(config, lengths, first, 2)[PROJECTIONS].flops

    layer = projected(config.num_hidden_layers - 1) - projected(config.num_hidden_layers)
    assert layer > 0
    assert projected(0) == pytest.approx(2 * projected(config.num_hidden_layers))
    assert projected(1) == pytest.approx(projected(0) - layer)


def test_attention_is_quadratic_in_documents_and_not_in_the_stream() -> None:
    config = Subject.random("tiny").config
    one, many = (count(config, lengths, 2, 2)[ATTENTION].flops for lengths in ([400], [100] * 4))
    assert one / many == pytest.approx(401 / 101)


def test_the_prototypes_bound_comes_out() -> None:
    """183,000 tokens/s for 1.3B at 790 TFLOP/s over documents of this kind."""
    rng = np.random.default_rng(0)
    lengths = np.clip(805 * np.exp(rng.standard_normal(2000) - 0.5), 32, 4096).astype(int).tolist()
    per_token = useful_flops(Subject.random("1.3b").config, lengths, 10) / sum(lengths)
    assert 790e12 / per_token == pytest.approx(183_000, rel=0.05)
