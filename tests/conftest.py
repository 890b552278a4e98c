"""Small models shared by the tests: real architectures, random weights, no files from outside."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # must stand before Triton is imported, by whomever

import transformers
from transformers import AutoModelForCausalLM

from airlab.models.load import CausalLM, wrap

# The same examples for everybody, however slow the machine: a commit is green or it is not. Faults are
# looked for with new ones: `make test-faults`.
settings.register_profile("new", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("new"), derandomize=True)
settings.load_profile("new" if os.environ.get("AIRLAB_FAULTS") == "full" else "same")

VOCABULARY = 97

_SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 96,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "head_dim": 16,  # the least that block-wise attention kernels take
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

_LEFT_OUT = object()
"""For settings of `_SMALL` that a configuration does not accept."""

_EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}

_LATENT = {
    "num_key_value_heads": 6,
    "head_dim": None,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 32,
    "v_head_dim": 32,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}

_ALTERNATING = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 16}

_LONG_ROPE: dict[str, Any] = {
    "original_max_position_embeddings": 64,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 8,
        "long_factor": [2.0, 3.0, 4.0, 5.0] * 2,
    },
}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {"tie_word_embeddings": True}),
    "llama-untied": ("LlamaConfig", {"tie_word_embeddings": False, "attention_bias": True}),
    "llama-multi-head": ("LlamaConfig", {"num_key_value_heads": 6}),
    "llama-yarn": (
        "LlamaConfig",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e4,
                "factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    "llama-dynamic-rope": (
        "LlamaConfig",  # stretches beyond its context only, and windows never exceed that
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}},
    ),
    "gpt2": ("GPT2Config", {"num_key_value_heads": _LEFT_OUT}),
    "qwen2": ("Qwen2Config", {}),
    "qwen2-sliding-above": (
        "Qwen2Config",
        {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2},
    ),
    "qwen3-qk-norm": ("Qwen3Config", {}),
    "mistral-sliding": ("MistralConfig", {"sliding_window": 16}),
    "ministral-alternating": ("MinistralConfig", _ALTERNATING),
    "gemma": ("GemmaConfig", {}),
    "gemma3-two-ropes": ("Gemma3TextConfig", {**_ALTERNATING, "query_pre_attn_scalar": 16}),
    "smollm3-nope": ("SmolLM3Config", {"no_rope_layer_interval": 2}),
    "olmo": ("OlmoConfig", {"clip_qkv": 1.0}),
    "olmo2": ("Olmo2Config", {}),
    "olmo3-alternating": ("Olmo3Config", _ALTERNATING),
    "phi": ("PhiConfig", {"partial_rotary_factor": 0.5}),
    "phi3": ("Phi3Config", {}),
    "starcoder2": ("Starcoder2Config", {"sliding_window": 16}),
    "stablelm": ("StableLmConfig", {"use_parallel_residual": True, "qk_layernorm": True}),
    "gpt-neox": ("GPTNeoXConfig", {"num_key_value_heads": 6}),
    "opt-learned-positions": (
        "OPTConfig",
        {"ffn_dim": 64, "word_embed_proj_dim": 96, "num_key_value_heads": _LEFT_OUT},
    ),
    "nemotron": ("NemotronConfig", {}),
    "glm4": ("Glm4Config", {"partial_rotary_factor": 0.5}),
    "exaone4": ("Exaone4Config", {**_ALTERNATING, "sliding_window_pattern": 2}),
    "ernie4.5": ("Ernie4_5Config", {}),
    "seed-oss": ("SeedOssConfig", {}),
    "mixtral": ("MixtralConfig", _EXPERTS),
    "qwen2-moe": ("Qwen2MoeConfig", _EXPERTS),
    "qwen3-moe": ("Qwen3MoeConfig", _EXPERTS),
    "olmoe": ("OlmoeConfig", _EXPERTS),
    "deepseek-v2": ("DeepseekV2Config", _LATENT),
    "deepseek-v3": ("DeepseekV3Config", _LATENT),
}
"""Families that are computed exactly: name → (configuration class, what differs from `_SMALL`)."""

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "gemma2": ("Gemma2Config", {}, "logits"),
    "gemma3-capped-logits": (
        "Gemma3TextConfig",
        {**_ALTERNATING, "final_logit_softcapping": 1.0},
        "change their logits",
    ),
    "granite-scaled-logits": ("GraniteConfig", {"logits_scaling": 8.0}, "change their logits"),
    "cohere-scaled-logits": ("CohereConfig", {}, "change their logits"),
    "cohere2-scaled-logits": ("Cohere2Config", _ALTERNATING, "change their logits"),
    "gpt-oss-sinks": ("GptOssConfig", {**_ALTERNATING, **_EXPERTS}, ""),
    "llama4-chunks": (
        "Llama4TextConfig",
        {**_EXPERTS, "intermediate_size_mlp": 64, "attention_chunk_size": 64, "layer_types": None},
        "",
    ),
    "phi3-longrope": ("Phi3Config", _LONG_ROPE, "longest one beside it"),
    "falcon-own-attention": ("FalconConfig", {"head_dim": _LEFT_OUT}, "0 of 4 layers"),
    "jamba-recurrence": (
        "JambaConfig",
        {**_EXPERTS, "attn_layer_period": 2, "attn_layer_offset": 1},
        "2 of 4 layers",
    ),
    "falcon-h1-recurrence": (
        "FalconH1Config",
        {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8},
        "leak",
    ),
    "qwen3-next-recurrence": (
        "Qwen3NextConfig",
        {
            **_EXPERTS,
            "linear_num_value_heads": 2,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
        },
        "of 4 layers",
    ),
    "lfm2-convolution": ("Lfm2Config", {"layer_types": ["conv", "full_attention"] * 2}, "of 4 layers"),
    "bert-both-directions": ("BertConfig", {"is_decoder": False}, ""),
}
"""Families that are refused: name → (configuration class, what differs, a part of the reason)."""


def random_model(config: str, changes: dict[str, Any]) -> Any:
    """A random model whose weights are large enough that attention is far from uniform."""
    config_class = getattr(transformers, config, None)
    if config_class is None:
        pytest.skip(f"this transformers has no {config}")
    torch.manual_seed(1234)
    settings = {k: v for k, v in {**_SMALL, **changes}.items() if v is not _LEFT_OUT}
    model = AutoModelForCausalLM.from_config(config_class(**settings))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                sharp = any(part in name for part in ("q_proj", "k_proj", "qkv", "query", "q_b_proj"))
                parameter.normal_(0, 0.25 if sharp else 0.1)
    return model.eval().requires_grad_(False)


def small_model(family: str, dtype: torch.dtype = torch.float32) -> CausalLM:
    """A small model of a family of `FAMILIES`."""
    return wrap(random_model(*FAMILIES[family]).to(dtype), tokenizer=None, digest="0" * 64)


@pytest.fixture(params=sorted(FAMILIES))
def any_family(request: pytest.FixtureRequest) -> CausalLM:
    """One small model of each supported family."""
    return small_model(request.param)


@pytest.fixture
def llama() -> CausalLM:
    """A small Llama with grouped-query attention."""
    return small_model("llama")
