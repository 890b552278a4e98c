"""Every random draw names its purpose; nothing shares or touches global state."""

import hashlib

import numpy as np


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed from a root seed and words that say what it is for.

    Hashing the words keeps streams independent: adding a new consumer never shifts the
    draws of an existing one, as ``seed + 1`` would.
    """
    text = "\x1f".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A NumPy generator for one purpose (see `derive_seed`)."""
    return np.random.default_rng(derive_seed(seed, *purpose))
