"""GGUF to safetensors, once."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from airlab.errors import UserError, first_line
from airlab.models.gguf_file import check_gguf


def convert_gguf(path: Path, folder: Path) -> int:
    """Write a GGUF file as a dense float32 model folder in the Hugging Face format.

    Args:
        path: the GGUF file, quantized or not; quantized weights are unpacked.
        folder: where `config.json`, `model.safetensors` and the tokenizer go.

    Returns:
        The number of parameters.

    Raises:
        UserError: the file is not a whole GGUF file, or its architecture is unknown.
    """
    check_gguf(path)
    where = {"gguf_file": path.name, "local_files_only": True}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path.parent, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True), **where
        )
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **where)
    except Exception as error:  # the file is anybody's, and fails in the libraries in every way there is
        raise UserError(f"{path.name} cannot be converted: {first_line(error)}") from error
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
