"""The model behind tasks that ask how likely a text is. Imported only in the worker process.

What lm-eval's own model class computes, to rounding. That one computes logits of the prompt too, which are
most of them, and waits for the GPU several times a request. Here a text that is asked about twice is read
once, only the answer's logits are computed, and a GPU is waited for once a batch.
"""

import inspect
import math
from collections import defaultdict
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

_LOGITS_AT_ONCE = {"cpu": 1 << 27, "cuda": 1 << 29}
"""Numbers of 4 bytes: rows of logits that are held together."""

Ids = tuple[int, ...]
Likelihood = tuple[float, bool]
"""In nats, and whether greedy decoding gives the same tokens."""


class Reader(HFLM):
    """A checkpoint that reads texts.

    Padding and the company in a batch change results by rounding alone: a likelihood by less than 1e-4.
    """

    @torch.no_grad()
    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], *_: Any, **__: Any
    ) -> list[Likelihood]:
        asked: dict[Ids, set[int]] = defaultdict(set)
        texts = []
        for _text, context, continuation in requests:
            assert continuation, "an empty answer has no likelihood"
            # As lm-eval does; our own tasks are refused where this cuts anything off.
            texts.append((*context, *continuation)[-self.max_length - 1 :])
            asked[texts[-1]].add(len(continuation))
        found: dict[tuple[Ids, int], Likelihood] = {}
        for batch in self._batches(asked):
            self._read(batch, asked, found)
        return [found[ids, len(answer)] for ids, (_t, _c, answer) in zip(texts, requests, strict=True)]

    def _batches(self, asked: dict[Ids, set[int]]) -> list[list[Ids]]:
        """Texts of similar lengths together, the longest first, and never more logits than may be held."""
        vocabulary = self.model.get_output_embeddings().weight.shape[0]
        held = max(1, _LOGITS_AT_ONCE[self.device.type] // vocabulary)
        batches: list[list[Ids]] = []
        first = 0
        for ids in sorted(asked, key=lambda ids: (-len(ids), ids)):
            last = batches[-1] if batches else []
            first = min(first, _first(ids, asked))
            kept = len(last[0]) - 1 - first if last else 0
            if last and len(last) < int(self.batch_size) and kept * (len(last) + 1) <= held:
                last.append(ids)
            else:
                batches.append([ids])
                first = _first(ids, asked)
        return batches

    def _read(
        self, batch: list[Ids], asked: dict[Ids, set[int]], found: dict[tuple[Ids, int], Likelihood]
    ) -> None:
        width, first = len(batch[0]) - 1, min(_first(ids, asked) for ids in batch)
        # What fills a row up stands behind it and is never seen by it: no mask is needed, which is faster.
        rows = _filled([ids[:-1] for ids in batch], width).to(self.device)
        targets = _filled([ids[first + 1 :] for ids in batch], width - first).to(self.device)
        logits = self._logits(rows, width - first)
        log_p = logits.gather(-1, targets[..., None])[..., 0] - logits.logsumexp(-1)
        greedy = (logits.argmax(-1) == targets).cpu().numpy()
        values = log_p.double().cpu().numpy()
        for row, ids in enumerate(batch):
            end = len(ids) - 1 - first
            for length in asked[ids]:
                answer = slice(end - length, end)
                found[ids, length] = math.fsum(values[row, answer]), bool(greedy[row, answer].all())

    def _logits(self, rows: torch.Tensor, kept: int) -> torch.Tensor:
        """float32 [rows, kept, vocabulary] of the last `kept` positions."""
        only = {"logits_to_keep": kept} if _keeps_some(self.model) else {}
        logits: torch.Tensor = self.model(input_ids=rows, use_cache=False, **only).logits
        return logits[:, -kept:].float()


def _first(ids: Ids, asked: dict[Ids, set[int]]) -> int:
    """The position that predicts the first token of a text's longest answer."""
    return len(ids) - 1 - max(asked[ids])


def _filled(rows: list[Ids], width: int) -> torch.Tensor:
    return torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in rows])


def _keeps_some(model: Any) -> bool:
    """Whether the model's forward pass can leave logits out; a few of the library's families cannot."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters
