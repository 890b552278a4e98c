"""Who scores: airlab's engine, ordinary transformers in several degrees of care, and a slow judge."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from transformers import AttentionInterface

from airlab.models.load import CausalLM
from airlab.models.packed import Reference
from airlab.scoring.losses import measure_documents

Documents = Sequence[np.ndarray]


@dataclass(frozen=True)
class Rival:
    """One way to score with transformers alone.

    Attributes:
        attention: transformers' attention implementation.
        batch: documents padded together.
        order: as they `arrive`, sorted by length within a `buffer` of documents that arrive together,
            or sorted over `all` documents.
        padding_mask: hand the mask of padding over, as the tokenizer makes it. Leaving it out is right
            too, since tokens are padded on the right and losses there are dropped, and it lets PyTorch
            choose its fastest kernel; few users know.
        compiled: through `torch.compile`, for any length.
        tokens: documents' tokens that are enough to time it on: the first buffers, or evenly from `all`.
    """

    title: str
    attention: str
    batch: int
    order: str
    padding_mask: bool = True
    compiled: bool = False
    tokens: int = 131_072

    def batches(self, documents: Documents, buffer_tokens: int, size: int) -> list[list[int]]:
        """Which documents are padded together: the timed share of all batches."""
        lengths = [len(document) for document in documents]
        arriving = list(islice(buffers(lengths, buffer_tokens), max(1, self.tokens // buffer_tokens)))
        groups = {
            "arrive": [[i for buffer in arriving for i in buffer]],
            "buffer": arriving,
            "all": [list(range(len(documents)))],
        }[self.order]
        if self.order != "arrive":
            groups = [sorted(group, key=lambda i: -lengths[i]) for group in groups]
        batches = [group[k : k + size] for group in groups for k in range(0, len(group), size)]
        # Sorted over everything, batches differ a hundredfold in length: every k-th is a fair sample.
        stride = max(1, sum(lengths) // self.tokens) if self.order == "all" else 1
        return batches[stride // 2 :: stride] or batches


RIVALS = {
    "eager": Rival("transformers eager, padded batches of 8", "eager", 8, "arrive", tokens=65_536),
    "sdpa": Rival("transformers sdpa, padded batches of 8", "sdpa", 8, "arrive"),
    "sdpa-sorted": Rival("transformers sdpa, sorted in a buffer, batches of 16", "sdpa", 16, "buffer"),
    "sdpa-sorted-all": Rival("transformers sdpa, all sorted, batches of 16", "sdpa", 16, "all"),
    "sdpa-careful": Rival("the same without padding mask", "sdpa", 16, "all", padding_mask=False),
    "sdpa-compiled": Rival(
        "the same without padding mask, torch.compile", "sdpa", 16, "all", padding_mask=False, compiled=True
    ),
}


def buffers(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Consecutive documents that make up about `tokens` tokens, at least one in each buffer."""
    held: list[int] = []
    total = 0
    for i, length in enumerate(lengths):
        if held and total + length > tokens:
            yield held
            held, total = [], 0
        held.append(i)
        total += length
    if held:
        yield held


@torch.inference_mode()
def padded_losses(
    models: Sequence[Any],
    documents: Documents,
    batches: Sequence[Sequence[int]],
    *,
    padding_mask: bool = True,
) -> np.ndarray:
    """Loss sums as most code takes them: whole logits of padded batches, float64 [models, documents].

    Documents outside the batches have NaN.
    """
    device = models[0].device
    found = []
    for rows in batches:
        longest = max(len(documents[i]) for i in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        present = torch.zeros_like(ids)
        for row, i in enumerate(rows):
            ids[row, : len(documents[i])] = torch.as_tensor(documents[i])
            present[row, : len(documents[i])] = 1
        ids, present = ids.to(device), present.to(device)
        for model in models:
            logits = model(
                input_ids=ids, attention_mask=present if padding_mask else None, use_cache=False
            ).logits[:, :-1]
            loss = cross_entropy(
                logits.reshape(-1, logits.shape[-1]).float(), ids[:, 1:].reshape(-1), reduction="none"
            )
            del logits
            found.append((loss.view(len(rows), -1).double() * present[:, 1:]).sum(1))
    sums = np.full((len(models), len(documents)), np.nan)
    for k, values in enumerate(found):
        sums[k % len(models), batches[k // len(models)]] = values.cpu().numpy()
    return sums


def engine_losses(
    lm: CausalLM, reference: Reference, documents: Documents, tokens_per_batch: int
) -> np.ndarray:
    """Loss sums by airlab, float64 [2, documents]: base, reference."""
    sums = measure_documents(
        lm,
        reference,
        documents,
        window_tokens=max([2, *(len(document) for document in documents)]),
        tokens_per_batch=tokens_per_batch,
    )
    return np.array([[s.base for s in sums], [s.reference for s in sums]])


@contextmanager
def _uniform_heads(model: Any, masked: dict[int, list[int]]) -> Iterator[None]:
    """Explicitly uniform attention: a masked head's output is the running mean of its values.

    Written without airlab's code, and without its idea (queries of zeros), to judge it.
    """

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **kwargs: Any) -> tuple[Any, None]:
        repeat = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
        output = scaled_dot_product_attention(query, key, value, is_causal=True, scale=kwargs.get("scaling"))
        for head in masked.get(module.layer_idx, ()):
            visible = torch.arange(1, query.shape[2] + 1, device=query.device)[:, None]
            output[:, head] = value[:, head].double().cumsum(1).div(visible).to(output.dtype)
        return output.transpose(1, 2), None

    before = model.config._attn_implementation
    AttentionInterface.register("running-mean", attend)
    model.set_attn_implementation("running-mean")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def judge_losses(
    model: Any, heads: Sequence[tuple[int, int]], documents: Documents, tick: Callable[[float], None]
) -> np.ndarray:
    """Loss sums one document at a time: the ordinary model, then with explicitly uniform heads."""
    masked: dict[int, list[int]] = {}
    for layer, head in heads:
        masked.setdefault(layer, []).append(head)
    batches = [[i] for i in range(len(documents))]

    def one_by_one() -> np.ndarray:
        sums = np.empty(len(documents))
        for rows in batches:
            sums[rows] = padded_losses([model], documents, [rows], padding_mask=False)[0, rows]
            tick(1)
        return sums

    base = one_by_one()
    with _uniform_heads(model, masked):
        return np.stack([base, one_by_one()])
