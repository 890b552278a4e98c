"""The target with its loss as GPUs compute it fastest: what `airlab.training.target` computes, to rounding.

The modules stay transformers' own, with other forward functions: whoever hooks into modules (DeepSpeed, data
parallelism, recomputation) finds them, and weights keep their names. Next to the library's

- attention visits nothing between documents (`airlab.training.document_attention`);
- products that share their input are one product: queries, keys and values, and the two halves of the
  feed-forward block;
- a block's result is added to the residual stream where the next norm reads it, in the same pass over memory;
- logits exist for a part of the positions at a time and once (`airlab.training.linear_loss`);
- the residual stream is kept in the type of the products, norms and rotations are computed in float32;
- one decoder layer is compiled, and all layers run it.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import linear, silu
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

from airlab.errors import UserError
from airlab.selection.mixture import Mixture
from airlab.training.document_attention import attention_tiles, document_attention
from airlab.training.linear_loss import summed_linear_loss
from airlab.training.packing import PackedSequences


def _norm(states: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    exact = states.float()
    scale = torch.rsqrt(exact.square().mean(-1, keepdim=True) + epsilon)
    return (exact * scale * weight).to(states.dtype)


def _rotated(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = states.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(states.dtype)


def _layer(
    states: torch.Tensor,
    pending: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    tiles: tuple[torch.Tensor, ...],
    norms: tuple[torch.Tensor, torch.Tensor],
    attention: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
    feed_forward: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    head_size: int,
    epsilon: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One decoder layer: residual stream [T, hidden] and what is to be added to it, in and out."""
    query, key, value, out = attention
    gate, up, down = feed_forward
    states = states + pending
    stacked = torch.cat((query, key, value)).to(states.dtype)
    sizes = (len(query), len(key), len(value))
    q, k, v = (
        part.unflatten(-1, (-1, head_size))
        for part in linear(_norm(states, norms[0], epsilon), stacked).split(sizes, dim=-1)
    )
    mixed = document_attention(_rotated(q, cos, sin), _rotated(k, cos, sin), v, tiles, head_size**-0.5)
    states = states + linear(mixed.flatten(1), out.to(states.dtype))
    stacked = torch.cat((gate, up)).to(states.dtype)
    opened, lifted = linear(_norm(states, norms[1], epsilon), stacked).chunk(2, dim=-1)
    return states, linear(silu(opened) * lifted, down.to(states.dtype))


def _last(states: torch.Tensor, pending: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    return _norm(states + pending, weight, epsilon)


# Every batch but a last, shorter one has the same shape; only the number of tiles is another each time.
_COMPILED_LAYER = torch.compile(_layer, dynamic=False, fullgraph=True)
_COMPILED_LAST = torch.compile(_last, dynamic=False, fullgraph=True)


def _layer_forward(
    layer: LlamaDecoderLayer, head_size: int, states: torch.Tensor, pending: torch.Tensor, *beside: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    cos, sin, *tiles = beside
    attention, feed_forward = layer.self_attn, layer.mlp
    result: tuple[torch.Tensor, torch.Tensor] = _COMPILED_LAYER(
        states,
        pending,
        cos,
        sin,
        tuple(tiles),
        (layer.input_layernorm.weight, layer.post_attention_layernorm.weight),
        tuple(
            product.weight
            for product in (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
        ),
        tuple(
            product.weight
            for product in (feed_forward.gate_proj, feed_forward.up_proj, feed_forward.down_proj)
        ),
        head_size,
        layer.input_layernorm.variance_epsilon,
    )
    return result


def _last_forward(norm: LlamaRMSNorm, states: torch.Tensor, pending: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = _COMPILED_LAST(states, pending, norm.weight, norm.variance_epsilon)
    return result


def _loss_forward(projection: nn.Linear, states: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return summed_linear_loss(states, projection.weight, labels)


class GpuLoss(nn.Module):
    """The target with its loss, as `SummedLoss`; takes what `TiledSequences` gives.

    Changes the target's modules: it is of no use for anything else afterwards, its weights are.
    """

    def __init__(self, target: LlamaForCausalLM, precision: torch.dtype = torch.bfloat16) -> None:
        """Raises UserError when the target has parts that are not computed here.

        Args:
            precision: of matrix products, attention and the residual stream.
        """
        super().__init__()
        _check(target)
        self.target = target
        self._precision = precision
        head_size = target.model.layers[0].self_attn.head_dim
        for layer in target.model.layers:
            layer.forward = partial(_layer_forward, layer, head_size)
        target.model.norm.forward = partial(_last_forward, target.model.norm)
        target.lm_head.forward = partial(_loss_forward, target.lm_head)

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        labels: torch.Tensor,
        *tiles: torch.Tensor,
    ) -> torch.Tensor:
        """Summed cross-entropy (nats, float32 scalar) over the labels that are not NO_TARGET.

        The first three are int64 [sequences, context], `tiles` their documents' `attention_tiles`.
        """
        for tensor in tiles:
            torch._dynamo.mark_dynamic(tensor, 0)
        model = self.target.model
        with torch.autocast(input_ids.device.type, enabled=False):
            angles = position_ids.flatten()[:, None, None] * model.rotary_emb.inv_freq
            rotation = angles.cos(), angles.sin()
            states = model.embed_tokens(input_ids.flatten()).to(self._precision)
            pending = torch.zeros_like(states)
            for layer in model.layers:
                states, pending = layer(states, pending, *rotation, *tiles)
            loss: torch.Tensor = self.target.lm_head(model.norm(states, pending), labels.flatten())
        return loss


class TiledSequences(PackedSequences):
    """Packed sequences as `GpuLoss` takes them, in memory that a GPU copies from beside its work."""

    def __init__(self, mixture: Mixture, head_size: int) -> None:
        super().__init__(mixture)
        self._head_size = head_size

    def tensors(self, sequences: np.ndarray) -> tuple[torch.Tensor, ...]:
        """Ids, positions and labels of the sequences, and the tiles of their documents."""
        batch = self.batch(sequences)
        lengths = document_lengths(batch.position_ids.numpy())
        tiles = attention_tiles(lengths, self._head_size)
        tensors = (
            batch.input_ids, batch.position_ids, batch.labels, *map(torch.from_numpy, tiles)
        )  # fmt: skip
        return tuple(tensor.pin_memory() for tensor in tensors) if torch.cuda.is_available() else tensors


def document_lengths(position_ids: np.ndarray) -> list[int]:
    """Tokens of each document in packed sequences; one begins wherever a position is 0."""
    flat = position_ids.ravel()
    lengths: list[int] = np.diff(np.flatnonzero(flat == 0), append=len(flat)).tolist()
    return lengths


def _check(target: LlamaForCausalLM) -> None:
    config = target.config
    rope = config.rope_parameters["rope_type"]
    others = [
        name
        for name, is_other in (
            ("biases", config.attention_bias or config.mlp_bias),
            ("dropout", config.attention_dropout != 0.0),
            (f"the activation {config.hidden_act}", config.hidden_act != "silu"),
            (f"the rotary embedding {rope}", rope not in ("default", "linear", "llama3")),
        )
        if is_other
    ]
    if others:
        raise UserError(
            f"this model has {' and '.join(others)}, which training on GPUs does not compute: choose a model "
            "of the plain Llama architecture, or machine=cpu."
        )
