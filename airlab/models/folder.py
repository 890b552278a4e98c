"""What a model folder must be before any library opens it.

A folder in the Hugging Face format can name code to run, other folders to load and attention kernels to
download, and its files can say anything. Here only the names and numbers are read.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from airlab.errors import UserError, first_line

_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
"""What configurations call the number of their layers."""

_CONFIGURATIONS = ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json")


def check_folder(folder: Path) -> None:
    """Refuse a model folder that cannot be loaded safely.

    Raises:
        UserError: no configuration, no safetensors weights, or a configuration that asks for code, weights or
            adapters from elsewhere, for packed weights, or for layers that the weights do not have.
    """
    config = folder / "config.json"
    if not config.is_file():
        raise UserError(
            f"{folder} is not a model folder: it has no config.json; "
            "give a folder in the Hugging Face format."
        )
    settings = read_settings(config)
    for beside in _CONFIGURATIONS:
        if (folder / beside).exists():
            read_settings(folder / beside)
    _refuse_code(folder, settings)
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder} has no .safetensors weights; pickle formats (.bin, .pt) are refused, "
            "convert the model to safetensors first."
        )
    if (folder / "adapter_config.json").exists():
        raise UserError(
            f"{folder} holds an adapter (adapter_config.json), which would be loaded over whatever model it "
            "names; merge it into its model first, and give that folder."
        )
    _check_index(folder)
    _check_layers(folder, settings)


def read_settings(path: Path) -> dict[str, Any]:
    """A JSON object from a model folder.

    Raises:
        UserError: it is none.
    """
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(
            f"{path} is not valid JSON ({first_line(error)}); download the model again."
        ) from None
    if not isinstance(settings, dict):
        raise UserError(f"{path} does not hold a JSON object; download the model again.")
    return settings


def _refuse_code(folder: Path, settings: dict[str, Any]) -> None:
    """Refuse what would run code of the folder's own, or fetch some."""
    for part in _objects(settings):
        if "auto_map" in part:
            raise UserError(
                f"{folder} asks to run code of its own (auto_map in config.json), which is never done; "
                "use a model that transformers implements."
            )
        for key, value in part.items():
            # transformers downloads and runs a kernel where this is the name of a repository.
            if key.endswith("_implementation") and not (value is None or _is_word(value)):
                raise UserError(
                    f"{folder} asks for code from elsewhere ({key} in config.json), which is never run; "
                    "remove that line."
                )
    if settings.get("quantization_config") is not None:
        raise UserError(
            f"the weights in {folder} are packed (quantization_config in config.json), and only dense ones "
            "can be masked and trained; give the model that they were packed from."
        )


def _objects(value: object) -> Iterator[dict[str, Any]]:
    """Every JSON object in a value, itself included."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            yield item
            left += item.values()
        elif isinstance(item, list):
            left += item


def _is_word(value: object) -> bool:
    return isinstance(value, str) and value.replace("_", "").isalnum()


def _check_index(folder: Path) -> None:
    """Weights in several files: those of this folder, which its digest covers, and no others."""
    for index in sorted(folder.glob("*.safetensors.index.json")):
        names = read_settings(index).get("weight_map")
        if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
            raise UserError(f"{index} does not say where the weights are; download the model again.")
        for name in sorted(set(names.values())):
            if Path(name).name != name or not name.endswith(".safetensors"):
                raise UserError(
                    f"{index} names weights that are no .safetensors file of this folder ({name}), which are "
                    "never read; put all files of the model into one folder."
                )


def _check_layers(folder: Path, settings: dict[str, Any]) -> None:
    """A number of layers that nobody has weights for would be built before anybody counts the weights."""
    layers = [part[key] for part in _objects(settings) for key in _LAYERS if part.get(key) is not None]
    tensors = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                tensors += len(file.keys())
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"the model in {folder} cannot be loaded: {path.name} is not a whole safetensors file "
                f"({first_line(error)}); download the model again."
            ) from error
    for number in layers:
        if type(number) is not int or not 0 < number <= tensors:
            raise UserError(
                f"{folder} says that it has {number!r:.40} layers, and its files hold {tensors} tensors; "
                "download the model again."
            )
