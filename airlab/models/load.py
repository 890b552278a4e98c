"""The one door through which causal language models come in.

Weights are safetensors (GGUF files were converted before they reach this door), remote code is
never run, and nothing falls back to another model.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from airlab.errors import UserError, first_line
from airlab.models import attention
from airlab.models.compiled import compile_layers
from airlab.models.folder import check_folder
from airlab.models.geometry import Geometry


@dataclass(frozen=True)
class CausalLM:
    """A loaded model with its tokenizer.

    Attributes:
        digest: sha-256 over the weight files, the same wherever the folder lies.
    """

    model: Any
    tokenizer: Any
    geometry: Geometry
    digest: str

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device


def weights_digest(folder: Path) -> str:
    """Sha-256 over names and contents of a folder's safetensors files."""
    total = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as stream:
            total.update(f"{path.name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\0".encode())
    return total.hexdigest()


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder; must be a fast one, since offsets into the text are needed."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the files are anybody's, and fail in the libraries in every way there is
        raise UserError(f"the tokenizer in {folder} cannot be loaded: {first_line(error)}") from error
    if not tokenizer.is_fast:
        raise UserError(
            f"the tokenizer in {folder} has no tokenizer.json; "
            "a fast tokenizer is needed to map tokens to text."
        )
    return tokenizer


def from_safetensors(kind: Any, folder: Path, what: str, **settings: Any) -> tuple[Any, list[str]]:
    """What an Auto class of transformers makes of a folder, and names of weights that its files lack, sorted.

    Only safetensors on this disk are read, and no code of the folder's own is run.

    Args:
        kind: the Auto class.
        what: the model in words.

    Raises:
        UserError: see `check_folder`; also when the architecture has no implementation.
    """
    check_folder(folder)
    try:
        model, report = kind.from_pretrained(
            folder,
            output_loading_info=True,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            **settings,
        )
    except Exception as error:  # the files are anybody's, and fail in the libraries in every way there is
        raise UserError(f"the {what} in {folder} cannot be loaded: {first_line(error)}") from error
    return model, sorted(report["missing_keys"])


def load_model(folder: Path, *, device: str, dtype: torch.dtype, **settings: Any) -> tuple[Any, Any]:
    """A causal language model that is whole and its own tokenizer: evaluation mode, no gradients.

    Raises:
        UserError: see `from_safetensors`; also when weights are missing, or the tokenizer is another model's.
    """
    model, missing = from_safetensors(AutoModelForCausalLM, folder, "model", dtype=dtype, **settings)
    if missing:
        raise UserError(
            f"the model in {folder} cannot be used: its files lack {missing[0]}, which "
            "would be made up at random; download the model again."
        )
    tokenizer = load_tokenizer(folder)
    highest = max(tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False).values(), default=-1)
    if highest < 0:
        raise UserError(f"the tokenizer in {folder} knows no tokens; download the model again.")
    rows = model.get_input_embeddings().num_embeddings
    if highest >= rows:
        raise UserError(
            f"the tokenizer in {folder} has tokens up to number {highest} and the model knows {rows}: "
            "they do not belong together; download the model again."
        )
    return model.to(device).eval().requires_grad_(False), tokenizer


def load_causal_lm(folder: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> CausalLM:
    """Load a model folder for scoring, see `wrap`.

    Raises:
        UserError: see `load_model`.
    """
    model, tokenizer = load_model(folder, device=device, dtype=dtype, attn_implementation=attention.NAME)
    return wrap(model, tokenizer, digest=weights_digest(folder))


def wrap(model: Any, tokenizer: Any, *, digest: str) -> CausalLM:
    """A `CausalLM` from a model that is already in memory, with airlab's attention function.

    On a GPU its layers are compiled when they first run.

    Raises:
        UserError: the model does not route its attention through transformers' attention interface.
    """
    if model.config._attn_implementation != attention.NAME:
        model.set_attn_implementation(attention.NAME)
    geometry = Geometry.of(model.config)
    if model.device.type == "cuda":
        compile_layers(model)
    return CausalLM(model=model, tokenizer=tokenizer, geometry=geometry, digest=digest)
