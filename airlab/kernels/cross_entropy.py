"""Cross-entropy of logits and its gradient, written over the logits, as one Triton kernel."""

import torch
import triton
import triton.language as tl


@triton.jit
def _replace(
    logits, labels, losses, row_stride, vocabulary, no_target,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    label = tl.load(labels + row)
    at = logits + row.to(tl.int64) * row_stride
    lane = tl.arange(0, BLOCK)
    if label == no_target:
        for first in range(0, vocabulary, BLOCK):
            zeros = tl.zeros([BLOCK], logits.dtype.element_ty)
            tl.store(at + first + lane, zeros, mask=first + lane < vocabulary)
        tl.store(losses + row, 0.0)
        return
    # For each lane its own maximum and sum: they meet once, at the end.
    most = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for first in range(0, vocabulary, BLOCK):
        x = tl.load(at + first + lane, mask=first + lane < vocabulary, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(most, x)
        level = tl.where(higher == float("-inf"), 0.0, higher)
        total = total * tl.exp(most - level) + tl.exp(x - level)
        most = higher
    highest = tl.max(most, 0)
    log_sum = highest + tl.log(tl.sum(total * tl.exp(most - highest), 0))
    tl.store(losses + row, log_sum - tl.load(at + label).to(tl.float32))
    for first in range(0, vocabulary, BLOCK):
        here = first + lane
        x = tl.load(at + here, mask=here < vocabulary, other=float("-inf")).to(tl.float32)
        gradient = tl.exp(x - log_sum) - tl.where(here == label, 1.0, 0.0)
        tl.store(at + here, gradient.to(logits.dtype.element_ty), mask=here < vocabulary)


def cross_entropy_in_place(logits: torch.Tensor, labels: torch.Tensor, no_target: int) -> torch.Tensor:
    """Loss of each row; the logits become the gradient of the losses' sum.

    Args:
        logits: [rows, vocabulary], overwritten; computed with in float32.
        labels: int64 [rows]; where it is `no_target`, loss and gradient are 0.

    Returns:
        float32 [rows], nats.
    """
    losses = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    _replace[(len(logits),)](
        logits, labels, losses, logits.stride(0), logits.shape[1], no_target, BLOCK=4096, num_warps=8
    )
    return losses
