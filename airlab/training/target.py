"""The target model: Llama architecture, weights drawn afresh, loss in float32."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import LlamaConfig, LlamaForCausalLM

from airlab.randomness import derive_seed
from airlab.schema.training import TargetModel
from airlab.training.packing import NO_TARGET

LOGITS_AT_ONCE = 1 << 26
"""Logits held at a time (256 MiB in float32); longer micro-batches recompute them in the backward pass."""


def build_target(model: TargetModel, vocabulary: int, end_of_text: int, seed: int) -> LlamaForCausalLM:
    """A float32 model whose every weight follows from `seed` and the weight's own name.

    `vocabulary` counts the tokenizer's tokens; `end_of_text` is its begin and end token.
    """
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=model.hidden_size,
        intermediate_size=model.intermediate_size,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        num_key_value_heads=model.kv_heads,
        max_position_embeddings=model.context,
        initializer_range=model.initial_std,
        rms_norm_eps=1e-5,
        tie_word_embeddings=model.tie_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": model.rope_base},
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
        attn_implementation="sdpa",
        dtype="float32",
    )
    with torch.random.fork_rng(
        devices=[]
    ):  # the library draws from the global generator; its draws are replaced
        target = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in target.named_parameters():
            if weight.dim() == 1:
                weight.fill_(1.0)
                continue
            source = torch.Generator().manual_seed(derive_seed(seed, "initial weights", name))
            weight.normal_(0.0, model.initial_std, generator=source)
    return target


class SummedLoss(nn.Module):
    """The target with its loss, as one module that data parallelism and DeepSpeed can wrap."""

    def __init__(self, target: LlamaForCausalLM) -> None:
        super().__init__()
        self.target = target

    def forward(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """Summed cross-entropy (nats, float32 scalar) over the labels that are not NO_TARGET.

        All three are int64 [sequences, context]. With `attention_mask=None`, no cache, and positions
        that restart, transformers masks attention between documents.
        """
        hidden = self.target.model(
            input_ids=input_ids, position_ids=position_ids, attention_mask=None, use_cache=False
        ).last_hidden_state.flatten(0, 1)
        flat_labels = labels.flatten()
        rows = max(1, LOGITS_AT_ONCE // self.target.config.vocab_size)
        if len(hidden) <= rows:
            return self._loss(hidden, flat_labels)
        total = hidden.new_zeros((), dtype=torch.float32)
        for part, part_labels in zip(torch.split(hidden, rows), torch.split(flat_labels, rows), strict=True):
            total = total + checkpoint(self._loss, part, part_labels, use_reentrant=False)
        return total

    def _loss(self, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = self.target.lm_head(hidden).float()
        return nn.functional.cross_entropy(logits, labels, ignore_index=NO_TARGET, reduction="sum")
