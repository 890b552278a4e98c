"""Which characters of a text each token stands for.

Tokens and characters do not nest: a character may take several tokens, and what a reader sees as one
character, such as a letter with an accent or a family of emoji, several code points. A mark is the smallest
run of text that begins and ends between such characters and between tokens.
"""

from typing import Any, NamedTuple

import numpy as np
import regex

from airlab.errors import UserError
from airlab.schema.traces import Rendering, Segmentation
from airlab.text.rendering import render
from airlab.text.steps import Span
from airlab.text.tokens import encode_documents, sequence_start
from airlab.text.trace_tokens import Step, encode_traces
from airlab.text.traces import Trace


class Marked(NamedTuple):
    """A text as a model reads it, and its tokens' marks."""

    text: str
    ids: np.ndarray
    """int32, as scoring has them."""
    ends: tuple[int, ...]
    """Where each mark ends, in characters; they partition the text."""
    tokens: tuple[int, ...]
    """How many tokens each mark has, at least one. One without characters has a mark of its own."""
    steps: tuple[Step, ...] = ()
    """Of a trace."""


def mark_document(tokenizer: Any, text: str) -> Marked:
    """The marks of a document's tokens.

    Raises:
        UserError: it has fewer than two.
    """
    (ids,) = encode_documents(tokenizer, [text])
    if len(ids) < 2:
        raise UserError("the text has fewer than two tokens: there is nothing to predict.")
    before = [(0, 0)] * len(sequence_start(tokenizer))
    offsets = before + _offsets(tokenizer, text, ids[len(before) :], special=False)
    return Marked(text, ids, *marks(text, offsets))


def mark_trace(
    tokenizer: Any, trace: Trace, rendering: Rendering, segmentation: Segmentation
) -> Marked | str:
    """The marks of a trace's tokens, prompt included, or the reason why it is not scored.

    Raises:
        UserError: see `encode_traces`.
    """
    (found,) = encode_traces(tokenizer, [trace], rendering, segmentation)
    if isinstance(found, str):
        return found
    text, chat = render(tokenizer, trace, rendering).text, rendering.template == "chat"
    before = [] if chat else [(0, 0)] * len(sequence_start(tokenizer))
    after = np.concatenate([found.ids, found.closing])[len(before) :]
    offsets = before + _offsets(tokenizer, text, after, special=chat)
    offsets = offsets[: len(found.ids)]
    text = text[: max(end for _, end in offsets)]
    return Marked(text, found.ids, *marks(text, offsets), found.steps)


def _offsets(tokenizer: Any, text: str, ids: np.ndarray, *, special: bool) -> list[Span]:
    """The characters of each token of a text that was tokenized to these ids."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = not special
    encoding = backend.encode(text, add_special_tokens=False)
    if encoding.ids != ids.tolist():
        raise RuntimeError("a text has other tokens when its characters are asked for")
    return list(encoding.offsets)


def marks(text: str, offsets: list[Span]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ends and numbers of tokens of the marks; see `Marked`.

    Args:
        offsets: the characters of each token. What some tokenizers leave out, mostly white space, belongs to
            the token after it, at the text's end to the last one.
    """
    borders = {0, *(found.end() for found in regex.finditer(r"\X", text))}
    ends: list[int] = []
    tokens: list[int] = []
    reached = 0
    for start, end in offsets:
        inside = reached not in borders or (start < end and start < reached)
        if ends and inside:
            ends[-1] = reached = max(reached, end)
            tokens[-1] += 1
        else:
            reached = max(reached, end)
            ends.append(reached)
            tokens.append(1)
    last = ends[-1]
    return tuple(len(text) if end == last else end for end in ends), tuple(tokens)
