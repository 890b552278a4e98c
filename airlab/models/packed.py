"""One forward pass over packed sequences, through the base model and, optionally, the reference model.

Sequences lie end to end in one token stream; none attends to another. Below the first masked
layer both models compute the same thing, so they share one row; there the row is doubled, and
heads are masked in the second row only. One set of weights, one pass, no padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from airlab.models.attention import Layout, MaskMode, Observer, attention_layout
from airlab.models.device import to_device
from airlab.models.geometry import decoder_layers
from airlab.models.load import CausalLM


@dataclass(frozen=True, eq=False)
class Reference:
    """The reference model, as a difference from the base model.

    Attributes:
        heads: layer → masked query heads (int64 tensor on the model's device); layers without
            masked heads are absent.
        mode: how a head is masked.
    """

    heads: dict[int, torch.Tensor]
    mode: MaskMode = "uniform"


def _double(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if args:
        return (torch.cat([args[0], args[0]]), *args[1:]), kwargs
    hidden = kwargs["hidden_states"]
    return args, {**kwargs, "hidden_states": torch.cat([hidden, hidden])}


@torch.inference_mode()
def run_layout(
    lm: CausalLM, tokens: torch.Tensor, positions: torch.Tensor, layout: Layout, *, two_rows: bool
) -> torch.Tensor:
    """Last hidden states under a layout whose tokens and positions are on the device; see `hidden_states`."""
    decoder = lm.model.get_decoder()
    hook = None
    if two_rows and layout.masked:
        branch = decoder_layers(lm.model)[min(layout.masked)]
        hook = branch.register_forward_pre_hook(_double, with_kwargs=True)
    try:
        with attention_layout(layout):
            # All three together, or packed documents silently see each other: no mask, no cache, and
            # positions that restart with every document.
            states = decoder(
                input_ids=tokens[None], position_ids=positions[None], attention_mask=None, use_cache=False
            ).last_hidden_state
    finally:
        if hook is not None:
            hook.remove()
    return torch.cat([states, states]) if two_rows and not layout.masked else states


def positions_of(lengths: Sequence[int]) -> np.ndarray:
    """Positions that restart with every sequence, int64 [T]."""
    return np.concatenate([np.arange(n) for n in lengths])


def hidden_states(
    lm: CausalLM,
    tokens: torch.Tensor,
    lengths: Sequence[int],
    reference: Reference | None = None,
    observer: Observer | None = None,
) -> torch.Tensor:
    """Last hidden states, after the final norm.

    Args:
        tokens: [T] token ids of all sequences, end to end, on the model's device.
        lengths: tokens of each sequence.
        reference: run the reference model beside the base model.
        observer: see `airlab.models.attention.Observer`.

    Returns:
        [1, T, hidden], or with `reference` [2, T, hidden]: base, then reference.
    """
    if sum(lengths) != tokens.numel():
        raise ValueError(f"lengths add up to {sum(lengths)}, but there are {tokens.numel()} tokens")
    layout = Layout(
        tuple(lengths),
        reference.heads if reference is not None else {},
        reference.mode if reference is not None else "uniform",
        observer,
    )
    positions = to_device(positions_of(lengths), tokens.device)
    return run_layout(lm, tokens, positions, layout, two_rows=reference is not None)
