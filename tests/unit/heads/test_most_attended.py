"""The most-attended positions against transformers' own attention weights, in every family."""

import numpy as np
import torch

from airlab.heads.detect import most_attended
from airlab.models import attention


def test_positions_are_those_of_the_largest_attention_weight(any_family):
    """Sequences longer than the sliding window, packed; rows anywhere, the first and the last included."""
    draw = np.random.default_rng(0)
    sequences = [draw.integers(0, 97, n) for n in (40, 9, 33)]
    rows = [np.array([0, 5, 20, 39]), np.array([8]), np.array([17, 31])]
    ours, states = most_attended(any_family, sequences, rows)
    any_family.model.set_attn_implementation("eager")
    for sequence, where, found in zip(sequences, rows, ours, strict=True):
        weights = any_family.model(
            input_ids=torch.as_tensor(sequence)[None], use_cache=False, output_attentions=True
        ).attentions
        theirs = torch.stack(weights)[:, 0][:, :, where].argmax(-1).numpy()
        np.testing.assert_array_equal(found, theirs)
    any_family.model.set_attn_implementation(attention.NAME)
    assert states.shape == (7, any_family.model.config.hidden_size)
