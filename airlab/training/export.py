"""A trained model as a folder in the Hugging Face format."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from airlab.training.engine import Engine

_PREFIX = "target."
"""What the modules that are trained call the model inside of them."""


def target_weights(engine: Engine) -> dict[str, torch.Tensor]:
    """What was trained, by the model's own names, on the CPU of the main process; nothing in the others.

    Every process must call it.
    """
    weights = {}
    for name, weight in engine.weights():
        if engine.is_main:
            weights[name.removeprefix(_PREFIX)] = weight.cpu()
    return weights


def write_model(weights: dict[str, torch.Tensor], target: Any, folder: Path) -> None:
    """Write `config.json`, `generation_config.json` and `model.safetensors`."""
    # Written piece by piece: the library's own save_pretrained loads DeepSpeed wherever it is installed.
    target.config.architectures = [type(target).__name__]
    target.config.save_pretrained(folder)
    target.generation_config.save_pretrained(folder)
    whole = {name: weight.contiguous() for name, weight in weights.items()}
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
