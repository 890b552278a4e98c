"""Text to tokens, as scoring wants them."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def sequence_start(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before every text by itself: its beginning-of-sequence token, or nothing.

    Asked by encoding: whether a template adds the token is not written in any attribute.
    """
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    start = whole[: len(whole) - len(bare)] if whole[-len(bare) :] == bare else whole[:1]
    return start if start == [tokenizer.bos_token_id] else []


def encode_documents(tokenizer: Any, texts: Sequence[str]) -> list[np.ndarray]:
    """Token ids (int64) of each text.

    Text that happens to spell a special token is tokenized as text. A beginning-of-sequence token
    is put in front exactly if the tokenizer does so by itself; it is context, never predicted.
    """
    encoded = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False)
    first = sequence_start(tokenizer)
    return [np.array(first + ids, dtype=np.int64) for ids in encoded["input_ids"]]
