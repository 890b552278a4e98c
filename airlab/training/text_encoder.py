"""Texts as token ids, by the tokenizer library alone: what encodes in many processes needs nothing larger."""

from collections.abc import Iterator

import numpy as np
from tokenizers import Tokenizer


class TextEncoder:
    """Documents to ids; text that looks like a special token is text.

    Args:
        bpe: set up for that, for good.
        separator: the id of the end of a text.
    """

    def __init__(self, bpe: Tokenizer, separator: int, vocabulary_size: int) -> None:
        self.separator, self.vocabulary_size = separator, vocabulary_size
        self._bpe = bpe
        self._bpe.no_truncation()
        self._bpe.no_padding()
        self._bpe.encode_special_tokens = True

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The smallest little-endian unsigned type that holds every id."""
        return np.dtype("<u2") if self.vocabulary_size <= 1 << 16 else np.dtype("<u4")

    def encode(self, texts: list[str]) -> Iterator[np.ndarray]:
        """One array of ids per text, without any added token."""
        for encoding in self._bpe.encode_batch_fast(texts, add_special_tokens=False):
            yield np.asarray(encoding.ids, dtype=self.dtype)

    def to_json(self) -> str:
        """The tokenizer itself, for `Tokenizer.from_str` in another process."""
        return self._bpe.to_str()
