"""Text that a model writes, many prompts at a time.

The model's own forward pass, masks and cache stay in charge. What is done here is the loop around them: rows
that have ended leave the batch at once, so that nobody waits for the longest answer with all the others, and
every row draws from randomness of its own, so that what is drawn does not depend on the company.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import DynamicCache

_LEFT_OUT = 0.125
"""Share of a batch's rows that must have ended before they are taken out: it costs a copy of the cache."""


class Written(NamedTuple):
    """What a model wrote."""

    ids: list[int]
    """Without the token that ended it."""
    ended: bool
    """Whether it came to an end by itself; otherwise it was cut off."""


Choose = Callable[[int, np.ndarray], int]
"""From the number of a prompt and the logits (float32 [vocabulary]) after it to the next token."""


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
    cache = DynamicCache(config=model.config)
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
