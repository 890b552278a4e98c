"""Text that a model writes, many prompts at a time.

The model's own forward pass, masks and cache stay in charge. What is done here is the loop around them: rows
that have ended leave the batch at once, so that nobody waits for the longest answer with all the others, and
every row draws from randomness of its own, so that what is drawn does not depend on the company.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from airlab.models.load import load_model, weights_digest

NAME = "airlab_decoding"
"""What a model's `attn_implementation` is while it writes on a CPU."""

_LEFT_OUT = 0.125
"""Share of a batch's rows that must have ended before they are taken out: it costs a copy of the cache."""


_ROOM = 64
"""Tokens that a cache is made longer by at once: growing it by one copies all of it for every token."""


class Written(NamedTuple):
    """What a model wrote."""

    ids: list[int]
    """Without the token that ended it."""
    ended: bool
    """Whether it came to an end by itself; otherwise it was cut off."""


Choose = Callable[[int, np.ndarray], int]
"""From the number of a prompt and the logits (float32 [vocabulary]) after it to the next token."""


def load_writer(folder: Path, *, device: str, dtype: torch.dtype) -> tuple[Any, Any, str]:
    """A model that writes, its tokenizer, and a name for it by its weights.

    Raises:
        UserError: see `airlab.models.load.load_model`.
    """
    model, tokenizer = load_model(folder, device=device, dtype=dtype)
    return model, tokenizer, f"weights sha256:{weights_digest(folder)[:16]}"


def sampled(randomness: Sequence[np.random.Generator], temperature: float, top_p: float) -> Choose:
    """Tokens drawn by their probability, of the likeliest that together reach `top_p`.

    Args:
        randomness: of each prompt; a token takes one draw from it, whatever the other prompts are.
    """

    def choose(number: int, logits: np.ndarray) -> int:
        scaled = (logits - logits.max()).astype(np.float64) / temperature
        weights = np.exp(scaled)
        order = np.argsort(-weights, kind="stable") if top_p < 1 else np.arange(len(weights))
        reached = np.cumsum(weights[order])
        last = int(np.searchsorted(reached, top_p * reached[-1]))
        drawn = randomness[number].random() * reached[min(last, len(reached) - 1)]
        return int(order[np.searchsorted(reached, drawn, side="right")])

    return choose


def decoding_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **settings: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one layer; [B, H, T, D] in, [B, T, H, D] out.

    For a single query PyTorch's fused kernel takes several times as long on a CPU as two products do.
    """
    rows, heads, queries, size = query.shape
    plain = all(settings.get(name) is None for name in ("s_aux", "position_bias", "softcap"))
    if queries > 1 or not plain:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
        return output, None
    scaling = settings.get("scaling")
    # Query heads that share a key/value head stand together, so that keys and values need no copies.
    grouped = query.reshape(rows, key.shape[1], -1, size) * (size**-0.5 if scaling is None else scaling)
    scores = grouped @ key.transpose(-1, -2)
    if attention_mask is not None:
        scores.masked_fill_(~attention_mask, -torch.inf)
    return (scores.softmax(-1) @ value).reshape(rows, 1, heads, value.shape[-1]), None


AttentionInterface.register(NAME, decoding_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


@contextmanager
def _fast_attention(model: Any) -> Iterator[None]:
    """Use it on a CPU, unless the model computes attention in a way of its own."""
    before = model.config._attn_implementation
    if before != "sdpa" or model.device.type != "cpu":
        yield
        return
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


class _Roomy(DynamicLayer):
    """Keys and values of one layer, in buffers with room for what follows."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new ones behind the others."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.buffers = [states[:, :, :0] for states in (key_states, value_states)]
        before = self.get_seq_length()
        after = before + key_states.shape[-2]
        if after > self.buffers[0].shape[-2]:
            self.buffers = [_longer(buffer, after + _ROOM, before) for buffer in self.buffers]
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, before:after] = states
        self._look(after)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep some rows."""
        length = self.get_seq_length()
        self.buffers = [buffer[indices] for buffer in self.buffers]
        self._look(length)

    def _look(self, length: int) -> None:
        self.keys, self.values = (buffer[:, :, :length] for buffer in self.buffers)


def _longer(buffer: torch.Tensor, length: int, used: int) -> torch.Tensor:
    rows, heads, _, size = buffer.shape
    longer = buffer.new_empty(rows, heads, length, size)
    longer[:, :, :used] = buffer[:, :, :used]
    return longer


def _cache(model: Any) -> DynamicCache:
    """The model's own kind of cache; layers that keep everything get room."""
    cache = DynamicCache(config=model.config)
    cache.layers = [_Roomy() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


@torch.no_grad()
def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    ends: frozenset[int],
    max_new_tokens: int,
    batch_size: int,
    choose: Choose | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> list[Written]:
    """What follows each prompt, in the prompts' order.

    Args:
        prompts: token ids, at least one each; with `max_new_tokens` they must fit the model's context.
        ends: tokens that end an answer.
        batch_size: prompts at a time; those of a similar length are put together.
        choose: see `Choose`; None takes the likeliest token, of equals the one with the lowest number.
        advance: told how many answers are finished.
    """
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    written: dict[int, Written] = {}
    with _fast_attention(model):
        for first in range(0, len(order), batch_size):
            rows = order[first : first + batch_size]
            answers = _batch(model, [prompts[row] for row in rows], rows, ends, max_new_tokens, choose)
            written.update(zip(rows, answers, strict=True))
            advance(len(rows))
    return [written[i] for i in range(len(prompts))]


def _batch(
    model: Any,
    prompts: list[Sequence[int]],
    numbers: list[int],
    ends: frozenset[int],
    max_new_tokens: int,
    choose: Choose | None,
) -> list[Written]:
    width = max(map(len, prompts))
    ids = torch.zeros(len(prompts), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = _cache(model)
    answers: list[list[int]] = [[] for _ in prompts]
    ended = [False] * len(prompts)
    here = list(range(len(prompts)))
    while here:
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        tokens = _chosen(logits, [numbers[row] for row in here], choose)
        for row, token in zip(here, tokens, strict=True):
            if ended[row] or len(answers[row]) == max_new_tokens:
                continue
            ended[row] = token in ends
            if not ended[row]:
                answers[row].append(token)
        goes_on = [not ended[row] and len(answers[row]) < max_new_tokens for row in here]
        if not any(goes_on):
            break
        ids = torch.tensor(tokens, device=model.device)[:, None]
        positions = positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(here), 1)], dim=1)
        if goes_on.count(False) > _LEFT_OUT * len(here):
            kept = torch.tensor([i for i, on in enumerate(goes_on) if on], device=model.device)
            cache.batch_select_indices(kept)
            ids, positions, mask = ids[kept], positions[kept], mask[kept]
            here = [row for row, on in zip(here, goes_on, strict=True) if on]
    return [Written(*answer) for answer in zip(answers, ended, strict=True)]


def _chosen(logits: torch.Tensor, numbers: list[int], choose: Choose | None) -> list[int]:
    if choose is None:
        chosen: list[int] = logits.argmax(-1).tolist()
        return chosen
    rows = logits.float().cpu().numpy()
    return [choose(number, row) for number, row in zip(numbers, rows, strict=True)]
