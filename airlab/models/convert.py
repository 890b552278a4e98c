"""GGUF to safetensors, once."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from airlab.errors import UserError


def convert_gguf(path: Path, folder: Path) -> int:
    """Write a GGUF file as a dense float32 model folder in the Hugging Face format.

    Args:
        path: the GGUF file, quantized or not; quantized weights are unpacked.
        folder: where `config.json`, `model.safetensors` and the tokenizer go.

    Returns:
        The number of parameters.

    Raises:
        UserError: the file is not a GGUF file, or its architecture is unknown.
    """
    with path.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise UserError(
                f"{path} is not a GGUF file; give a GGUF file or a folder in the Hugging Face format."
            )
    where = {"gguf_file": path.name, "local_files_only": True}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path.parent, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True), **where
        )
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **where)
    except (KeyError, ValueError, OSError) as error:
        raise UserError(f"{path.name} cannot be converted: {str(error).splitlines()[0]}") from error
    sparse = [name for name, tensor in model.named_parameters() if not tensor.is_floating_point()]
    if sparse:
        # Packed weights would load and run, slowly, and could not be masked or trained.
        raise UserError(f"{path.name} kept packed weights ({sparse[0]}); a dense model is needed.")
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())
