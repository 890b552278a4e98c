"""How much of some texts a training stream holds."""

from collections.abc import Iterable, Mapping

import numpy as np

from airlab.text.ngrams import ngrams


def shares_covered(stream: np.ndarray, texts: Mapping[str, Iterable[np.ndarray]], n: int) -> dict[str, float]:
    """The share of the texts' token n-grams that occur in the stream, repeats counted, by group of texts.

    An n-gram over the border of two documents of the stream has a separator in it, which no text has.

    Args:
        stream: ids [tokens].
        texts: of each group, the ids of each text; groups without a single n-gram are left out.
        n: tokens in an n-gram.
    """
    held = np.sort(ngrams(stream, n))
    shares = {}
    for group, some in texts.items():
        asked = np.concatenate([*(ngrams(text, n) for text in some), np.empty(0, np.uint64)])
        if len(asked) and len(held):
            places = np.minimum(np.searchsorted(held, asked), len(held) - 1)
            shares[group] = float(np.mean(held[places] == asked))
        elif len(asked):
            shares[group] = 0.0
    return shares
