"""What a model reads before it answers: exactly what stood there when it was trained on traces."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from airlab.schema.traces import Rendering, Segmentation
from airlab.text.rendering import render
from airlab.text.tokens import sequence_start
from airlab.text.trace_tokens import encode_traces, own_characters
from airlab.text.traces import Message, Trace
from airlab.training.trace_data import closing_tokens

_NOTHING_SAID = "."
"""Stands for an answer that is still to come, where a template wants one."""
_PROBE = Trace("probe", "", (Message("user", "1+1?"),), "2")


class Prompts:
    """A tokenizer's way of asking, the same as `airlab.text.rendering` has for traces that are trained on."""

    def __init__(self, tokenizer: Any, rendering: Rendering) -> None:
        self.tokenizer = tokenizer
        self.rendering = rendering

    def text(self, messages: Sequence[Message], given: str = "") -> str:
        """All that stands before the answer, and of the answer what is given.

        Raises:
            UserError: see `airlab.text.rendering.render`.
        """
        rendered = render(
            self.tokenizer, Trace("asked", "", tuple(messages), given or _NOTHING_SAID), self.rendering
        )
        return rendered.text[: rendered.end if given else rendered.start]

    def unusable(self, messages: Sequence[Message]) -> str | None:
        """Why these cannot be asked (see `airlab.text.trace_tokens.encode_traces`), or nothing."""
        asked = Trace("asked", "", tuple(messages), _NOTHING_SAID)
        (found,) = encode_traces(self.tokenizer, [asked], self.rendering, Segmentation(rule="whole"))
        return found if isinstance(found, str) else None

    def ids(self, text: str) -> list[int]:
        """Tokens of a prompt."""
        ids, _ = self.divided(text, len(text))
        return ids

    def divided(self, text: str, answer: int) -> tuple[list[int], list[int]]:
        """Tokens before and from the character `answer` on, divided as the steps of traces are."""
        chat = self.rendering.template == "chat"
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = not chat
        encoding = backend.encode(text, add_special_tokens=False)
        own = own_characters(text, np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2))
        inside = int(np.searchsorted(own, answer))
        first = [] if chat else sequence_start(self.tokenizer)
        return [*first, *encoding.ids[:inside]], encoding.ids[inside:]

    @cached_property
    def ends(self) -> frozenset[int]:
        """The tokens that end an answer: what fine-tuning puts behind it, and the tokenizer's own."""
        (probe,) = encode_traces(self.tokenizer, [_PROBE], self.rendering, Segmentation(rule="whole"))
        assert not isinstance(probe, str)
        closing = closing_tokens(self.tokenizer, probe.closing)
        own = self.tokenizer.eos_token_id
        return frozenset({int(closing[-1]), *([] if own is None else [own])})
