"""A recorded pass computes from what it was given, whatever the memory held before. Needs a GPU."""

import numpy as np
import pytest
import torch

from airlab.heads.mask import HeadMask
from airlab.models.load import wrap
from airlab.models.packed import Reference
from airlab.scoring.losses import measure_documents
from tests.conftest import FAMILIES, random_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")

_A_SECOND = 2_000_000_000
"""Cycles of the GPU's clock, about."""


@pytest.mark.parametrize("mode", ["uniform", "zero"])
def test_no_buffer_is_read_before_it_is_filled(mode):
    lm = wrap(random_model(*FAMILIES["llama"]).to("cuda"), tokenizer=None, digest="0" * 64)
    documents = [np.arange(5, 60), np.arange(20, 90)]

    def losses(mask: Reference) -> list[float]:
        sums = measure_documents(lm, mask, documents, window_tokens=128, tokens_per_batch=1024)
        return [value for s in sums for value in (s.base, s.reference, s.entropy)]

    # Each mask has a recording of its own. Both are made first: copying to the GPU waits for it.
    first, second = (HeadMask(((1, 0), (2, 3)), mode).reference(lm.device) for _ in range(2))
    expected = losses(first)  # compiles: later recordings start at once
    poison = [torch.full((1024,), -1, dtype=torch.int64, device="cuda") for _ in range(4096)]
    torch.cuda.synchronize()
    del poison  # their memory is the next ones', with tokens that do not exist
    torch.cuda._sleep(_A_SECOND)  # whatever fills that memory comes late
    assert losses(second) == expected
