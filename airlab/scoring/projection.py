"""From last hidden states to losses, without `[tokens, vocabulary]` logits in memory."""

import torch

_LOGITS_BYTES = 24 << 20
"""Logits in memory at once on CPUs. The C library reuses blocks below 32 MiB; larger ones are mapped
and cleared anew every time, which costs more than the arithmetic."""


def _in_blocks(
    projection: torch.nn.Linear, states: torch.Tensor, targets: torch.Tensor, entropy: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    vocabulary = projection.weight.shape[0]
    rows_at_once = max(1, _LOGITS_BYTES // (4 * vocabulary))
    losses, entropies = [], []
    for rows, wanted in zip(states.split(rows_at_once), targets.split(rows_at_once), strict=True):
        logits = projection(rows).float()
        top = logits.amax(dim=-1, keepdim=True)
        chosen = logits.gather(1, wanted[:, None])[:, 0]
        # One exponential serves both: with e = exp(l - max), log Z = max + log sum e, and the
        # entropy is log Z - (sum e l) / (sum e).
        shares = torch.sub(logits, top, out=None if entropy else logits).exp_()
        total = shares.sum(dim=-1)
        log_z = top[:, 0] + total.log()
        losses.append(log_z - chosen)
        if entropy:
            # Not a dot product per row: those sum tens of thousands of terms one after the other.
            entropies.append(log_z - shares.mul_(logits).sum(dim=-1) / total)
    return torch.cat(losses), torch.cat(entropies) if entropy else torch.empty(0)


@torch.inference_mode()
def position_losses(projection: torch.nn.Linear, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """What the two models make of every position.

    Args:
        projection: the model's output embeddings, a linear layer.
        states: [2, T, hidden], last hidden states of the base and the reference model.
        targets: int64 [T], the token that each position should predict.

    Returns:
        float32 [3, T], nats: base loss, reference loss, entropy of the base model's prediction.
    """
    if states.is_cuda:
        from airlab.kernels.linear_losses import linear_losses

        losses, entropies = linear_losses(
            states.flatten(0, 1), projection.weight, projection.bias, targets.repeat(2)
        )
        return torch.cat([losses.view(2, -1), entropies.view(2, -1)[:1]])
    base, entropy = _in_blocks(projection, states[0], targets, entropy=True)
    reference, _ = _in_blocks(projection, states[1], targets, entropy=False)
    return torch.stack([base, reference, entropy])
