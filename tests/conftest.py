"""Small models shared by the tests: real architectures, random weights, no files from outside."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Qwen2Config,
    Qwen3Config,
)

from airlab.models.load import CausalLM, wrap

VOCABULARY = 97

_SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "head_dim": 8,
}

FAMILIES = {
    "llama": (LlamaConfig, {"tie_word_embeddings": True}),
    "llama-untied": (LlamaConfig, {"tie_word_embeddings": False, "attention_bias": True}),
    "llama-multi-head": (LlamaConfig, {"num_key_value_heads": 6}),
    "qwen2": (Qwen2Config, {}),
    "qwen3-qk-norm": (Qwen3Config, {}),
    "mistral-sliding": (MistralConfig, {"sliding_window": 16}),
    "gemma": (GemmaConfig, {}),
    "olmo2": (Olmo2Config, {}),
}


def small_model(family: str, dtype: torch.dtype = torch.float32) -> CausalLM:
    """A random model whose weights are large enough that attention is far from uniform."""
    config_class, changes = FAMILIES[family]
    torch.manual_seed(1234)
    model = AutoModelForCausalLM.from_config(config_class(**{**_SMALL, **changes}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.35 if "q_proj" in name or "k_proj" in name else 0.15)
    return wrap(model.to(dtype).eval().requires_grad_(False), tokenizer=None, digest="0" * 64)


@pytest.fixture(params=sorted(FAMILIES))
def any_family(request: pytest.FixtureRequest) -> CausalLM:
    """One small model of each supported family."""
    return small_model(request.param)


@pytest.fixture
def llama() -> CausalLM:
    """A small Llama with grouped-query attention."""
    return small_model("llama")
