"""N-grams as numbers."""

import zlib

import numpy as np

from airlab.text.statistics import words_of

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def word_ngrams(text: str, n: int, numbers: dict[str, int]) -> np.ndarray:
    """A 64-bit number for each word n-gram, in order; two that differ share one about never.

    Args:
        text: of which words are taken as `words_of` does.
        n: words in an n-gram.
        numbers: those of the words seen so far, to which this text's are added.

    Returns:
        uint64 [words - n + 1], empty for a text of fewer words.
    """
    words = words_of(text)
    for word in words:
        if word not in numbers:
            numbers[word] = zlib.crc32(word.encode("utf-8", "surrogatepass"))
    ids = np.fromiter((numbers[word] for word in words), dtype=np.uint64, count=len(words))
    return ngrams(ids, n)


def ngrams(ids: np.ndarray, n: int) -> np.ndarray:
    """A 64-bit number for each n-gram of `ids`, integers [ids], in order; uint64 [ids - n + 1]."""
    ids = ids.astype(np.uint64, copy=False)
    count = max(0, len(ids) - n + 1)
    rolled = np.zeros(count, dtype=np.uint64)
    for place in range(n):
        rolled = rolled * _MULTIPLIER + ids[place : place + count]
    return rolled
