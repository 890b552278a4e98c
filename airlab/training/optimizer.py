"""AdamW with weight decay on matrices only."""

import torch
from torch import nn

from airlab.schema.machine import Machine
from airlab.schema.training import Training


def adamw(model: nn.Module, training: Training, machine: Machine) -> torch.optim.AdamW:
    """AdamW over what is trained; the learning rate is 0 until the loop sets it before each update."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    matrices = [weight for weight in trained if weight.dim() > 1]
    vectors = [weight for weight in trained if weight.dim() <= 1]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": training.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=0.0,
        betas=(training.beta1, training.beta2),
        eps=training.epsilon,
        **({"fused": True} if machine.device == "cuda" else {"foreach": True}),
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
