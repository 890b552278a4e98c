"""Text to tokens, as scoring wants them."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def encode_documents(tokenizer: Any, texts: Sequence[str]) -> list[np.ndarray]:
    """Token ids (int64) of each text.

    Text that happens to spell a special token is tokenized as text. A beginning-of-sequence token
    is put in front exactly if the tokenizer does so by itself; it is context, never predicted.
    """
    encoded = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False)
    first = [tokenizer.bos_token_id] if getattr(tokenizer, "add_bos_token", False) else []
    return [np.array(first + ids, dtype=np.int64) for ids in encoded["input_ids"]]
