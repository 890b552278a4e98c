"""Exact and near duplicates: each document is compared with all that were kept before it."""

import hashlib
import re
from typing import Literal

_WORDS_PER_SHINGLE = 5
_PERMUTATIONS = 128
_MINHASH_SEED = 1


class SeenDocuments:
    """The documents kept so far; the pool and what is held out share one, so the two cannot overlap.

    Two documents are near duplicates where the Jaccard similarity of their word 5-grams (case and
    punctuation aside), as estimated from 128 minimum hashes, reaches the threshold.
    """

    def __init__(self, threshold: float) -> None:
        from rensa import RMinHashLSH

        self._threshold = threshold
        # Bands of four rows find a pair at 0.5 similarity with probability 0.87 and at 0.7 with 0.9999;
        # every candidate is then compared in full, so the bands cost time only.
        self._index = RMinHashLSH(threshold, _PERMUTATIONS, _PERMUTATIONS // 4)
        self._kept: list[object] = []
        self._exact: set[bytes] = set()

    def add(self, text: str) -> Literal["new", "duplicate", "near_duplicate"]:
        """Keeps the document if it is new and says what it is."""
        from rensa import RMinHash

        words = re.findall(r"\w+", text.lower())
        digest = hashlib.sha256(" ".join(words).encode()).digest()
        if digest in self._exact:
            return "duplicate"
        sketch = RMinHash(_PERMUTATIONS, _MINHASH_SEED)
        shingles = zip(*(words[offset:] for offset in range(_WORDS_PER_SHINGLE)), strict=False)
        sketch.update(list({" ".join(shingle) for shingle in shingles}) or [" ".join(words)])
        for key in self._index.query(sketch):
            if sketch.jaccard(self._kept[key]) >= self._threshold:
                return "near_duplicate"
        self._exact.add(digest)
        self._index.insert(len(self._kept), sketch)
        self._kept.append(sketch)
        return "new"
