"""Instruction-following difficulty, with a document's first half for the instruction."""

from typing import Literal

import numpy as np

from airlab.selection.needs import HalfLosses, Need
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units


class Ifd(SelectorBase):
    """Mean loss of a document's second half after the first one, over its mean loss on its own.

    IFD (Li et al., arXiv 2308.12032) is that ratio for an answer and its instruction: the higher, the less
    the instruction helps. Samples above 1 are left out, as there it misleads, and the highest of the others
    are selected. Superfiltering (Li et al., arXiv 2402.00530) does so with a small model that was not tuned
    first, as here. Deviates: documents have no instruction, so that the first half stands for it (cut by
    `airlab.text.halves`); the ratio is of losses, where Superfiltering's is of perplexities; a budget has to
    be met, so documents at or above 1 are not left out but come after all others, the highest last.
    Documents without a second half that has something to predict have no IFD and come after those.

    The first half's losses are the same alone and in the document, because models are causal, so what the
    document's sum has more is the second half's after the first. That is exact where the first half's tokens
    are the document's first ones, as with SmolLM2 they are in all 478 documents of the laptop pool. Where the
    tokenizer sets no beginning of sequence, a text's first token is not predicted, so the second half on its
    own has one predicted token less, as in the authors' code. In a document beyond one scoring window, what
    lies in later windows than the cut has nothing of the first half before it and pulls the ratio to 1.

    A trace has an instruction, so that nothing stands for it: the ratio is the mean loss of the response
    after the prompt, as the chat template shows both, over its mean loss as a text on its own.
    """

    kind: Literal["ifd"]

    def needs(self) -> tuple[Need, ...]:
        return (HalfLosses(),)

    def score(self, units: Units, seed: int) -> np.ndarray:
        halves = units.measured(HalfLosses())
        n_after, n_alone = units.n_tokens - halves["n_tokens_first"], halves["n_tokens_second"]
        # A loss of exactly zero leaves nothing to divide by. What is no number is no loss of zero.
        has = (n_alone > 0) & (n_after > 0) & (halves["loss_sum_second"] != 0)
        after = (units.loss_sum_base - halves["loss_sum_first"])[has] / n_after[has]
        ifd = after / (halves["loss_sum_second"][has] / n_alone[has])
        ranked = np.where(ifd >= 1, -ifd, ifd)
        scores = np.full(len(units), ranked.min(initial=0) - 1)
        scores[has] = ranked
        return scores


SELECTORS = (Ifd,)
