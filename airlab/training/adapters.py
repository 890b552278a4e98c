"""LoRA: adapters of low rank beside a model's linear maps, through peft."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file

from airlab.randomness import derive_seed
from airlab.schema.fine_tuning import Lora

FOLDER = "adapter"
_NAME = "default"
"""What peft calls an adapter that nobody named, in a model; it leaves the name out in files."""
_IN_FILES = "base_model.model."


def add_adapters(target: Any, lora: Lora, seed: int) -> LoraConfig:
    """Put an adapter beside every linear map but the output projection, and freeze everything else.

    At first an adapter adds nothing. Its other factor is drawn as peft does, uniformly up to
    1 / sqrt(its inputs), by `seed` and the weight's own name.
    """
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules="all-linear",
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # peft's own draws are replaced
        inject_adapter_in_model(config, target)
        for name, weight in target.named_parameters():
            if "lora_A" in name:
                source = torch.Generator().manual_seed(derive_seed(seed, "adapter", name))
                bound = weight.shape[1] ** -0.5
                weight.uniform_(-bound, bound, generator=source)
    return config


def merged_weights(target: Any, adapters: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a model with adapters when these have become part of its linear maps.

    Args:
        target: a model after `add_adapters`; its weights are changed.
        adapters: the adapters' weights, by name in `target`.
    """
    with torch.no_grad():
        for name, weight in target.named_parameters():
            if name in adapters:
                weight.copy_(adapters[name])
        for module in target.modules():
            if isinstance(module, LoraLayer):
                module.merge()
    return {
        name.replace(".base_layer.", "."): weight.detach()
        for name, weight in target.named_parameters()
        if name not in adapters
    }


def write_adapter(config: LoraConfig, adapters: dict[str, torch.Tensor], folder: Path) -> None:
    """Write a folder that peft loads over the model that was fine-tuned."""
    folder.mkdir(exist_ok=True)
    settings = config.to_dict() | {"target_modules": sorted(config.target_modules or ())}
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    named = {
        _IN_FILES + name.replace(f".{_NAME}.", "."): weight.cpu().contiguous()
        for name, weight in adapters.items()
    }
    save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})
