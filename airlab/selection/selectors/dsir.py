"""DSIR: data selection with importance resampling (Xie et al., arXiv 2302.03169)."""

import zlib
from itertools import pairwise
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from airlab.errors import UserError
from airlab.randomness import derive_seed
from airlab.selection.needs import BenchmarkTexts, Need, TaskTexts
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units
from airlab.text.statistics import words_of

_SMOOTHING = 1e-8
"""Added to every bucket's probability, as in the authors' code."""


class Dsir(SelectorBase):
    """Log importance weights of hashed unigrams and bigrams towards a target, with Gumbel noise.

    The weight of a document is the sum over its n-grams of log p_target - log p_raw, both over `buckets`
    hash buckets; taking the top after adding Gumbel noise samples without replacement in proportion to
    the weights. Sums, not means: long documents have extreme weights, mostly low ones. As in the authors'
    code: lower case, word and punctuation tokens, 10,000 buckets, 1e-8. Deviates: hashed by CRC-32 instead
    of SHA-256, for speed; the raw distribution is that of all units; no filter for quality or length
    beforehand; the draw of a document depends on its id and the seed only.

    Towards a benchmark, the target is what the authors take, questions with their right answers of a split
    that is not evaluated. A task that the evaluation makes of held-out documents has no such split: its
    target is made the same way of the corpus' own documents, at most 1,000 items. Those are units themselves,
    and are favoured a little, as the units of a named domain are.
    """

    kind: Literal["dsir"]
    towards_domain: str | None = None
    """Target: the units of this domain."""
    towards_text: Annotated[str, Field(min_length=1)] | None = None
    """Target: this text."""
    towards_task: Annotated[str, Field(min_length=1)] | None = None
    """Target: this task of the experiment's evaluation, by its name there, such as `reasoning_worked`."""
    towards_benchmark: Annotated[str, Field(min_length=1)] | None = None
    """Target: this benchmark of lm-evaluation-harness, by its name there, such as `gsm8k`; needs a hub."""
    buckets: PositiveInt = 10_000
    noise: bool = True
    """Resample (the paper); false takes the highest weights."""

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        targets = (self.towards_domain, self.towards_text, self.towards_task, self.towards_benchmark)
        if sum(target is not None for target in targets) != 1:
            raise ValueError(
                "give one of towards_domain, towards_text, towards_task and towards_benchmark, and null for "
                "the others"
            )
        return self

    @property
    def target(self) -> str:
        """In words."""
        words = {
            "the domain": self.towards_domain,
            "the task": self.towards_task,
            "the benchmark": self.towards_benchmark,
        }
        named = [f"{what} {name}" for what, name in words.items() if name is not None]
        return named[0] if named else "a text"

    def needs(self) -> tuple[Need, ...]:
        if self.towards_task is not None:
            return (TaskTexts(self.towards_task),)
        if self.towards_benchmark is not None:
            return (BenchmarkTexts(self.towards_benchmark),)
        return ()

    def score(self, units: Units, seed: int) -> np.ndarray:
        found = [_hashed(text, self.buckets) for text in units.texts()]
        raw = _counts(found, self.buckets)
        if self.towards_text is not None:
            target = _counts([_hashed(self.towards_text, self.buckets)], self.buckets)
        elif needs := self.needs():
            texts = units.measured(needs[0])["text"].tolist()
            target = _counts([_hashed(text, self.buckets) for text in texts], self.buckets)
        else:
            inside = np.flatnonzero(units.domain == self.towards_domain)
            if len(inside) == 0:
                raise UserError(
                    f"there is no domain {self.towards_domain!r} to select towards; "
                    f"the corpus has {', '.join(sorted(set(units.domain.tolist())))}."
                )
            target = _counts([found[i] for i in inside], self.buckets)
        gain = np.log(_shares(target) + _SMOOTHING) - np.log(_shares(raw) + _SMOOTHING)
        weights = np.array([gain[hashed].sum() for hashed in found], dtype=np.float64)
        if not self.noise:
            return weights
        uniform = [(derive_seed(seed, "dsir", u) + 0.5) / 2**63 for u in units.unit_id.tolist()]
        return weights - np.log(-np.log(np.clip(uniform, 1e-18, 1 - 1e-16)))


def _hashed(text: str, buckets: int) -> np.ndarray:
    """The bucket of each unigram and bigram of a text, sorted, so that sums do not depend on the order."""
    words = words_of(text)
    ngrams = [*words, *(" ".join(pair) for pair in pairwise(words))]
    return np.sort(np.array([zlib.crc32(n.encode()) % buckets for n in ngrams], dtype=np.int64))


def _counts(hashed: list[np.ndarray], buckets: int) -> np.ndarray:
    total = np.zeros(buckets, dtype=np.int64)
    for one in hashed:
        total += np.bincount(one, minlength=buckets)
    return total


def _shares(counts: np.ndarray) -> np.ndarray:
    return counts / max(1, counts.sum())


SELECTORS = (Dsir,)
