"""The model behind tasks that are turns of a conversation. Imported only in the worker process.

lm-eval's own model class shows a chat and divides its tokens a little differently from how traces are shown
in training, keeps every row until the last of its batch has ended, and reads a solution once for itself and
once more for its last line. This one asks exactly as training did, and does each thing once.
"""

import math
from collections import defaultdict
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from airlab.errors import UserError
from airlab.evaluation.prompts import Prompts
from airlab.models.generate import generate
from airlab.schema.traces import Rendering
from airlab.text.traces import Message

_LOGITS_AT_ONCE = 1 << 27
"""Numbers, 512 MiB: rows of logits that are held together."""


class Solver(HFLM):
    """A checkpoint that is asked as its traces were.

    Greedy, and stopped by the token that ends a turn. Padding and the company in a batch change results by
    rounding alone: a likelihood by less than 1e-4, a token only where the two best are as near as that.
    """

    def __init__(self, rendering: Rendering, **settings: Any) -> None:
        super().__init__(**settings)
        self.prompts = Prompts(self.tokenizer, rendering)
        self.truncated: set[str] = set()
        """Contexts whose answer had to be cut off."""

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The text before an answer; the last turn, if it is the assistant's, is the answer's beginning."""
        turns = [Message(**turn) for turn in chat_history]  # type: ignore[arg-type]
        if add_generation_prompt:
            return self.prompts.text(turns)
        return self.prompts.text(turns[:-1], turns[-1].content)

    def tok_encode(self, string: str, *_: Any, **__: Any) -> list[int]:
        """Tokens as in training, whatever the harness would add."""
        return self.prompts.ids(string)

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        return self.prompts.divided(context + continuation, len(context))

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Greedy answers."""
        contexts = [request.args[0] for request in requests]
        (max_new_tokens,) = {request.args[1]["max_gen_toks"] for request in requests}
        asked = [self.tok_encode(context) for context in contexts]
        self._check(max(map(len, asked)) + max_new_tokens, f"with max_new_tokens={max_new_tokens}")
        written = generate(
            self.model,
            asked,
            ends=self.prompts.ends,
            max_new_tokens=max_new_tokens,
            batch_size=int(self.batch_size),
        )
        self.truncated |= {c for c, answer in zip(contexts, written, strict=True) if not answer.ended}
        return [self.tokenizer.decode(answer.ids, skip_special_tokens=True) for answer in written]

    @torch.no_grad()
    def _loglikelihood_tokens(
        self,
        requests: list[tuple[tuple[str, str], list[int], list[int]]],
        *_: Any,
        **__: Any,
    ) -> list[tuple[float, bool]]:
        asked: dict[tuple[int, ...], set[int]] = defaultdict(set)
        for _texts, context, continuation in requests:
            asked[(*context, *continuation)].add(len(continuation))
        self._check(max(map(len, asked)), "with its solution")
        found: dict[tuple[tuple[int, ...], int], tuple[float, bool]] = {}
        for batch in self._batches(asked):
            self._read(batch, asked, found)
        return [found[(*context, *continuation), len(continuation)] for _t, context, continuation in requests]

    def _batches(self, asked: dict[tuple[int, ...], set[int]]) -> list[list[tuple[int, ...]]]:
        """Texts of similar lengths together, the longest first, and never more logits than may be held."""
        held = max(1, _LOGITS_AT_ONCE // self.model.get_output_embeddings().weight.shape[0])
        batches: list[list[tuple[int, ...]]] = []
        for ids in sorted(asked, key=lambda ids: (-len(ids), ids)):
            last = batches[-1] if batches else []
            if last and len(last) < int(self.batch_size) and len(last[0]) * (len(last) + 1) <= held:
                last.append(ids)
            else:
                batches.append([ids])
        return batches

    def _read(
        self,
        batch: list[tuple[int, ...]],
        asked: dict[tuple[int, ...], set[int]],
        found: dict[tuple[tuple[int, ...], int], tuple[float, bool]],
    ) -> None:
        width = len(batch[0]) - 1
        first = min(len(ids) - max(asked[ids]) for ids in batch)
        # What fills a row up stands behind it and is never seen by it: no mask is needed, which is faster.
        rows = torch.tensor([[*ids[:-1], *[0] * (width + 1 - len(ids))] for ids in batch])
        logits = self.model(
            input_ids=rows.to(self.device), use_cache=False, logits_to_keep=width - (first - 1)
        ).logits
        for row, ids in enumerate(batch):
            longest = max(asked[ids])
            targets = torch.tensor(ids[-longest:], device=self.device)
            own = logits[row, len(ids) - longest - first : len(ids) - first].float()
            log_p = (own.gather(1, targets[:, None])[:, 0] - own.logsumexp(-1)).double().tolist()
            greedy = (own.argmax(-1) == targets).tolist()
            for length in asked[ids]:
                found[ids, length] = (math.fsum(log_p[-length:]), all(greedy[-length:]))

    def _check(self, longest: int, what: str) -> None:
        # The last token is only predicted, never read.
        if longest - 1 > self.max_length:
            raise UserError(
                f"the evaluation has a problem of {longest} tokens {what} and the model's context is "
                f"{self.max_length}: lower evaluation.max_new_tokens, or ask shorter problems"
            )
