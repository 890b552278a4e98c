"""What can be measured of a document by looking at its characters alone: the confounds of any score."""

import re
from dataclasses import dataclass

_WORDS_PER_NGRAM = 5
_ZSTD_LEVEL = 3


@dataclass(frozen=True)
class TextStatistics:
    """Surface statistics of one document.

    Attributes:
        n_bytes: length in UTF-8.
        n_words: words and single punctuation marks.
        compression_ratio: bytes of the text over bytes after zstd; higher is more repetitive. Short
            texts compress badly whatever they say, and long ones better, since earlier text helps.
        repetition: share of the document's word 5-grams that already occurred in it, 0 to 1; 0 for
            a document of fewer than five words.
    """

    n_bytes: int
    n_words: int
    compression_ratio: float
    repetition: float


def measure_text(text: str) -> TextStatistics:
    """The statistics of a document; an empty one has a compression ratio of 0."""
    data = text.encode()
    words = words_of(text)
    return TextStatistics(len(data), len(words), _compression_ratio(data), _repetition(words))


def words_of(text: str) -> list[str]:
    """Lower-case words and runs of punctuation, in order (what NLTK calls word-punct tokens)."""
    return re.findall(r"\w+|[^\w\s]+", text.lower())


def _compression_ratio(data: bytes) -> float:
    import zstandard

    compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_content_size=False)
    return len(data) / len(compressor.compress(data))


def _repetition(words: list[str]) -> float:
    """As the rules of Gopher (Rae et al., arXiv 2112.11446, Table A1) count, over n-grams not characters."""
    ngrams = list(zip(*(words[i:] for i in range(_WORDS_PER_NGRAM)), strict=False))
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0
