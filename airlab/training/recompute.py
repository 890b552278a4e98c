"""Layers that are computed again in the backward pass instead of keeping what it needs."""

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.training import attention


def recompute_layers(module: nn.Module, machine: Machine) -> None:
    """Make every layer keep its input only; raises UserError when the model's layers are not known as such.

    Whatever function a layer has by now is the one that is computed twice. The library's own switch knows its
    own function only, and does nothing in evaluation mode, in which fine-tuning leaves a model.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, GradientCheckpointingLayer)]
    if not layers:
        raise UserError("This model's layers cannot be computed again; choose machine.recompute=false.")
    again: dict[str, Any] = {"use_reentrant": False}
    if machine.device == "cpu":  # our own attention is used there, and no compiler that would look into it
        again["context_fn"] = attention.traces_again
    for layer in layers:
        twice: Any = partial(checkpoint, layer.forward, **again)
        layer.forward = twice
