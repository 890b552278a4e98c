"""Layers that are computed again in the backward pass instead of keeping what it needs."""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.training import attention


def recompute_layers(module: nn.Module, machine: Machine) -> None:
    """Make every layer keep its input only; raises UserError when the model's layers do not offer that."""
    layers = [layer for layer in module.modules() if isinstance(layer, GradientCheckpointingLayer)]
    if not layers:
        raise UserError("This model's layers cannot be computed again; choose machine.recompute=false.")
    again = partial(checkpoint, use_reentrant=False)
    if machine.device == "cpu":  # our own attention is used there, and no compiler that would look into it
        again = partial(again, context_fn=attention.traces_again)
    for layer in layers:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = again
        # The library asks the layer alone; what is inside of it stays in evaluation mode where it is.
        layer.training = True
