"""Text to tokens, as scoring wants them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_TEXT_AT_ONCE = 4 << 20
"""Bytes of text in one call of the tokenizer, unless one document alone has more."""


def sequence_start(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before every text by itself: its beginning-of-sequence token, or nothing.

    Asked by encoding: whether a template adds the token is not written in any attribute.
    """
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    start = whole[: len(whole) - len(bare)] if whole[-len(bare) :] == bare else whole[:1]
    return start if start == [tokenizer.bos_token_id] else []


def encode_documents(tokenizer: Any, texts: Sequence[str]) -> list[np.ndarray]:
    """Token ids (int32) of each text.

    Text that happens to spell a special token is tokenized as text. A beginning-of-sequence token
    is put in front exactly if the tokenizer does so by itself; it is context, never predicted.

    Runs on all cores unless `TOKENIZERS_PARALLELISM` is false, and leaves the interpreter to other
    threads nearly all the time. Memory while it runs: about 60 bytes a token besides the result.
    """
    first = sequence_start(tokenizer)
    # The library itself, with the settings that the tokenizer's own call would give it: that call makes
    # Python lists of masks nobody asked for, and holds the interpreter while it does.
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    encodings = backend.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.array(first + encoding.ids, dtype=np.int32) for encoding in encodings]


class Tokenized(NamedTuple):
    """Some consecutive documents of a table."""

    rows: pa.Table
    """Their unit_id and domain."""
    tokens: list[np.ndarray]
    """Their token ids, int32."""


def tokenized_documents(file: pq.ParquetFile, groups: Iterable[int], tokenizer: Any) -> Iterator[Tokenized]:
    """The documents of some row groups of a table of documents, in order.

    Memory: the text of one row group, and what `encode_documents` takes for 4 MiB of text (about 100 MB) or
    for the longest document, whichever is more.
    """
    for group in groups:
        table = file.read_row_group(group, columns=["unit_id", "domain", "text"])
        rows, texts = table.select(["unit_id", "domain"]), table["text"]
        start, size = 0, 0
        for row, more in enumerate(pc.binary_length(texts).to_pylist()):
            if row > start and size + more > _TEXT_AT_ONCE:
                yield Tokenized(rows[start:row], encode_documents(tokenizer, texts[start:row].to_pylist()))
                start, size = row, 0
            size += more
        yield Tokenized(rows[start:], encode_documents(tokenizer, texts[start:].to_pylist()))
