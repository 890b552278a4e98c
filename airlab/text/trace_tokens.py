"""Traces to tokens, and tokens to steps.

Prompt and response are tokenized as one text, so that the model reads what it would read anywhere else. A
token belongs to where its first own character lies: the first of its characters that is not white space, or
the first of all where it has no other. So a word with the space before it belongs to the step that begins
with the word, and line breaks glued to a full stop belong to the step that it ends. The same rule divides
prompt and response: a token that begins in the prompt is a token of the prompt, whatever follows.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from airlab.schema.traces import Rendering, Segmentation
from airlab.text.rendering import Rendered, render
from airlab.text.steps import Span, cut
from airlab.text.tokens import sequence_start
from airlab.text.traces import Trace, traces_of_group

_TEXT_AT_ONCE = 1 << 20
"""Characters in one call of the tokenizer, unless one trace alone has more; offsets take some memory."""

NOTHING_TO_PREDICT = "fewer than two tokens: nothing to predict"
SPECIAL_TEXT = "spells a special token"


class Step(NamedTuple):
    """One step of a trace."""

    start: int
    end: int
    """Characters of the response."""
    first_token: int
    """Its first predicted token, counted from the trace's first token."""
    n_tokens: int
    """Predicted tokens, at least one."""


class TraceTokens(NamedTuple):
    """A trace as a model reads it."""

    ids: np.ndarray
    """int32, prompt and response, up to the response's last token."""
    closing: np.ndarray
    """int32, what the chat template puts after the response; nothing in a plain text."""
    steps: tuple[Step, ...]
    """They partition the response's characters and its predicted tokens, which are all from the first step's
    on. Only where nothing stands before the response is its first token not predicted, and in no step. A step
    that no token belongs to is joined to the step before it, the first one to the step after."""


def encode_traces(
    tokenizer: Any, traces: Sequence[Trace], rendering: Rendering, segmentation: Segmentation
) -> list[TraceTokens | str]:
    """Tokens and steps of each trace, or the reason why it has none.

    A plain text is tokenized as a document is: a beginning-of-sequence token exactly if the tokenizer puts
    one there, and special tokens that it spells read as text. A chat is tokenized as the tokenizer's own call
    does: special tokens are the template's.

    Raises:
        UserError: see `render` and `cut`.
    """
    chat = rendering.template == "chat"
    special: list[str] = []
    if chat and rendering.special_text == "skip":
        special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    skipped = [_spells(trace, special) for trace in traces]
    used = [trace for trace, skip in zip(traces, skipped, strict=True) if not skip]
    rendered = [render(tokenizer, trace, rendering) for trace in used]
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = not chat
    encodings = backend.encode_batch([text.text for text in rendered], add_special_tokens=False)
    first = [] if chat else sequence_start(tokenizer)
    encoded = (
        _divided(trace, text, first, encoding.ids, encoding.offsets, segmentation)
        for trace, text, encoding in zip(used, rendered, encodings, strict=True)
    )
    return [SPECIAL_TEXT if skip else next(encoded) for skip in skipped]


def _spells(trace: Trace, special: list[str]) -> bool:
    texts = [trace.response, *(message.content for message in trace.messages)]
    return any(token in text for token in special for text in texts)


def _divided(
    trace: Trace,
    rendered: Rendered,
    start_tokens: list[int],
    ids: list[int],
    offsets: list[Span],
    segmentation: Segmentation,
) -> TraceTokens | str:
    own = own_characters(rendered.text, np.array(offsets, dtype=np.int64).reshape(-1, 2))
    inside, after = (int(i) for i in np.searchsorted(own, [rendered.start, rendered.end]))
    spans = cut(
        trace.response,
        segmentation,
        token_starts=(own[inside:after] - rendered.start).tolist(),
        step_ends=trace.step_ends,
    )
    # Where steps begin, in tokens. Nothing predicts the very first token.
    borders = np.searchsorted(own[:after], [rendered.start + start for start, _ in spans])
    borders = np.maximum([*(borders + len(start_tokens)), after + len(start_tokens)], 1)
    steps: list[Step] = []
    for (start, end), first, last in zip(spans, borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        if steps and (first == last or steps[-1].n_tokens == 0):
            start, first = steps[-1].start, steps[-1].first_token
            steps.pop()
        steps.append(Step(start, end, first, last - first))
    if not steps or steps[0].n_tokens == 0:
        return NOTHING_TO_PREDICT
    cut_at = after + len(start_tokens)
    everything = np.array(start_tokens + ids, dtype=np.int32)
    return TraceTokens(everything[:cut_at], everything[cut_at:], tuple(steps))


def own_characters(text: str, offsets: np.ndarray) -> np.ndarray:
    """Each token's first own character, ascending.

    Args:
        text: what was tokenized.
        offsets: int64 [tokens, 2], the characters of each token. Some tokenizers leave white space out of
            them; a token that has nothing else then stands for what lies between its neighbours.

    Returns:
        int64 [tokens].
    """
    if not len(offsets):
        return np.zeros(0, dtype=np.int64)
    starts, ends = offsets.T
    reached = np.concatenate([[0], np.maximum.accumulate(ends)[:-1]])
    begins = np.where(starts < ends, starts, np.minimum(starts, reached))
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    visible = np.where(np.isin(codes, _white_space()), len(codes), np.arange(len(codes)))
    next_visible = np.minimum.accumulate(np.append(visible, len(codes))[::-1])[::-1]
    own = next_visible[begins]
    return np.maximum.accumulate(np.where(own < ends, own, begins))


@cache
def _white_space() -> np.ndarray:
    spaces = [code for code in range(sys.maxunicode + 1) if chr(code).isspace()]
    return np.array(spaces, dtype=np.uint32)


def tokenized_traces(
    file: pq.ParquetFile,
    groups: Iterable[int],
    tokenizer: Any,
    rendering: Rendering,
    segmentation: Segmentation,
) -> Iterator[list[tuple[Trace, TraceTokens | str]]]:
    """The traces of some row groups of a table of traces, in order, some at a time.

    Raises:
        UserError: see `encode_traces`.
    """

    def encoded(some: list[Trace]) -> list[tuple[Trace, TraceTokens | str]]:
        return list(zip(some, encode_traces(tokenizer, some, rendering, segmentation), strict=True))

    for group in groups:
        held: list[Trace] = []
        size = 0
        for trace in traces_of_group(file, group):
            more = len(trace.prompt) + len(trace.response)
            if held and size + more > _TEXT_AT_ONCE:
                yield encoded(held)
                held, size = [], 0
            held.append(trace)
            size += more
        if held:
            yield encoded(held)
