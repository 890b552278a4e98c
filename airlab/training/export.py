"""A trained model as a folder in the Hugging Face format."""

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from airlab.training.engine import Engine

_PREFIX = "target."
"""What the modules that are trained call the model inside of them."""


def export_weights(engine: Engine, target: Any, folder: Path) -> None:
    """Write `config.json`, `generation_config.json` and `model.safetensors`; every process must call it."""
    weights = {
        name.removeprefix(_PREFIX): weight.cpu().contiguous() for name, weight in engine.weights().items()
    }
    if not engine.is_main:
        return
    # Written piece by piece: the library's own save_pretrained loads DeepSpeed wherever it is installed.
    target.config.architectures = [type(target).__name__]
    target.config.save_pretrained(folder)
    target.generation_config.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
