"""What is timed: a model with its masked heads, and documents for it."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from airlab.heads.mask import HeadMask, read_mask
from airlab.models.load import CausalLM, load_causal_lm, wrap
from airlab.models.packed import Reference
from airlab.randomness import derive_seed, generator

SHARE_OF_HEADS = 0.05
_SEED = 0

_SHAPES: dict[str, dict[str, Any]] = {
    "1.3b": {
        "hidden_size": 2048, "intermediate_size": 5504, "num_hidden_layers": 24, "num_attention_heads": 16,
        "num_key_value_heads": 16, "vocab_size": 32000, "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
    },
    "135m": {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 8192,
        "tie_word_embeddings": True, "rope_theta": 100000.0,
    },
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 260, "max_position_embeddings": 512,
        "tie_word_embeddings": True,
    },
}  # fmt: skip
_FIRST_MASKED = {"1.3b": 10, "135m": 17, "tiny": 2}


@dataclass(frozen=True)
class Subject:
    """A base model, built anew whenever asked for, and the heads that make its reference model.

    Attributes:
        folder: real weights, or None for random ones (the same ones every time).
    """

    name: str
    config: Any
    mask: HeadMask
    folder: Path | None

    @classmethod
    def random(cls, shape: str) -> "Subject":
        """A Llama of a known shape with random weights; masked heads are spread over the upper layers."""
        config = LlamaConfig(**_SHAPES[shape])
        first, heads = _FIRST_MASKED[shape], config.num_attention_heads
        upper = [(layer, head) for layer in range(first, config.num_hidden_layers) for head in range(heads)]
        count = math.ceil(SHARE_OF_HEADS * config.num_hidden_layers * heads)
        drawn = generator(_SEED, "benchmark heads").permutation(len(upper) - 1)[: count - 1]
        return cls(shape, config, HeadMask((upper[0], *sorted(upper[i + 1] for i in drawn))), None)

    @classmethod
    def real(cls, folder: Path, heads: Path, name: str) -> "Subject":
        """A model folder and its ranking (the top 5 %) or list of heads."""
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        return cls(name, config, read_mask(heads, SHARE_OF_HEADS, "uniform"), folder)

    @property
    def first_masked(self) -> int:
        """The lowest layer with a masked head."""
        return min(layer for layer, _ in self.mask.heads)

    def ordinary(self, device: str, dtype: torch.dtype, attention: str) -> Any:
        """The base model as transformers makes it."""
        if self.folder is not None:
            return (
                AutoModelForCausalLM.from_pretrained(
                    self.folder, dtype=dtype, attn_implementation=attention, local_files_only=True
                )
                .to(device)
                .eval()
                .requires_grad_(False)
            )
        with torch.device(device):
            model = AutoModelForCausalLM.from_config(self.config, dtype=dtype, attn_implementation=attention)
        draw = torch.Generator(device).manual_seed(derive_seed(_SEED, "benchmark weights", self.name))
        for name, parameter in model.requires_grad_(False).named_parameters():
            if parameter.dim() > 1:
                # Attention far from uniform, or masking a head would change nothing and check nothing.
                gain = 2.0 if "q_proj" in name or "k_proj" in name else 1.0
                parameter.normal_(0, gain * parameter.shape[1] ** -0.5, generator=draw)
        return model.eval()

    def masked(self, model: Any) -> Any:
        """The reference model as a user would make it: a copy with the masked heads' queries weighted by 0.

        Exact for models without normalised queries: equal logits, so uniform attention.
        """
        second = copy.deepcopy(model)
        for layer, head in self.mask.heads:
            attention = second.get_decoder().layers[layer].self_attn
            rows = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
            attention.q_proj.weight[rows] = 0
        return second

    def engine(self, device: str, dtype: torch.dtype) -> CausalLM:
        """The base model as airlab scores with it."""
        if self.folder is not None:
            return load_causal_lm(self.folder, device=device, dtype=dtype)
        return wrap(self.ordinary(device, dtype, "sdpa"), None, digest="0" * 64)

    def reference(self, lm: CausalLM) -> Reference:
        """The reference model, for airlab."""
        return self.mask.reference(lm.device)

    def facts(self) -> dict[str, Any]:
        """JSON: what was timed."""
        return {
            "name": self.name,
            "weights": "random" if self.folder is None else "real",
            "layers": self.config.num_hidden_layers,
            "hidden": self.config.hidden_size,
            "query_heads": self.config.num_attention_heads,
            "kv_heads": self.config.num_key_value_heads,
            "vocabulary": self.config.vocab_size,
            "masked_heads": [list(pair) for pair in self.mask.heads],
            "first_masked_layer": self.first_masked,
        }


def leading(documents: Sequence[np.ndarray], tokens: int) -> list[np.ndarray]:
    """The first documents that make up exactly `tokens` tokens; the last one is cut."""
    chosen: list[np.ndarray] = []
    for document in documents:
        document = document[:tokens]
        tokens -= len(document)
        if len(document) > 1:
            chosen.append(document)
    return chosen


def log_normal_documents(tokens: int, vocabulary: int, *, cap: int = 4096) -> list[np.ndarray]:
    """Documents of random tokens, at least `tokens` in all; log-normal lengths, mean about 770."""
    draw = generator(_SEED, "benchmark documents")
    documents: list[np.ndarray] = []
    total = 0
    while total < tokens:
        length = int(np.clip(805 * math.exp(draw.standard_normal() - 0.5), 32, 4096)) * cap // 4096
        documents.append(draw.integers(0, vocabulary, max(length, 2)))
        total += len(documents[-1])
    return documents
