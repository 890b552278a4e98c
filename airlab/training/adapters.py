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


class Adapters:
    """The adapters of a model."""

    def __init__(self, target: Any, lora: Lora, seed: int) -> None:
        """Put one beside every linear map of `target` but the output projection, and freeze everything else.

        At first an adapter adds nothing. Its other factor is drawn as peft does, uniformly up to
        1 / sqrt(its inputs), by `seed` and the weight's own name.
        """
        self._target = target
        self._config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            target_modules="all-linear",
            lora_dropout=0.0,
            bias="none",
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng(devices=[]), torch.no_grad():  # peft's own draws are replaced
            inject_adapter_in_model(self._config, target)
            for name, weight in target.named_parameters():
                if ".lora_A." in name:
                    source = torch.Generator().manual_seed(derive_seed(seed, "adapter", name))
                    bound = weight.shape[1] ** -0.5
                    weight.uniform_(-bound, bound, generator=source)

    def merged(self) -> dict[str, torch.Tensor]:
        """Copies of the model's weights with the adapters in them, by the names it had without.

        All weights must be at hand. They are changed: this is done once, at the end.
        """
        for module in self._target.modules():
            if isinstance(module, LoraLayer):
                module.merge()
        return {
            name.replace(".base_layer.", "."): weight.detach().to("cpu", copy=True)
            for name, weight in self._target.named_parameters()
            if not weight.requires_grad
        }

    def write(self, weights: dict[str, torch.Tensor], output: Path) -> None:
        """Write `adapter/`, which peft loads over the model that was fine-tuned.

        Args:
            weights: the adapters', by name in the model.
        """
        folder = output / FOLDER
        folder.mkdir(exist_ok=True)
        settings = self._config.to_dict() | {"target_modules": sorted(self._config.target_modules or ())}
        text = json.dumps(settings, indent=2, sort_keys=True)
        (folder / "adapter_config.json").write_text(text + "\n")
        named = {
            _IN_FILES + name.replace(f".{_NAME}.", "."): weight.cpu().contiguous()
            for name, weight in weights.items()
        }
        save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})
