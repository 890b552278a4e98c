"""Selector size: does a smaller selector, trained on the very pool, choose as well as SmolLM2-135M?

Hypothesis (AttentionInfluence, arXiv 2505.07293, Sections 4.1 and 5): what is chosen hangs little on the
model that chooses, for retrieval heads are a property of language models of any size; a 1.3B selector helps a
7B target. Two selectors, everything else alike:

- `default`: SmolLM2-135M-Instruct, trained by others on 2T tokens, which may have seen these texts.
- `small-selector`: 31M parameters from scratch, 60M tokens of this pool and no other, so that whatever it
  knows of a text it has from here.

Analysis plan: that of `ablations`, of which this is one factor on a larger pool: Spearman of the two
influences, Jaccard of their selections, and each one's own comparison with random at equal tokens, paired
over three seeds and items; two p-values, Holm-corrected. The two are not compared with each other.

For the method: the small selector's heads copy (otherwise finding them is refused, and that is the result),
its ranking agrees with the default's within domains (Spearman above one half), and both selections beat
random. Against it: the small selector ranks otherwise and does as well; then what both share, length or
repetition, is what helps.

Expected: heads form, for 31M parameters and 60M tokens are about where copying was seen to appear; agreement
of 0.3 to 0.7 within domains; no verdict, as targets of 31M parameters on 20M tokens hardly copy and the main
table found nothing. A 124M target is a question for more than minutes of a GPU.

Only at scale=h100: `machine=gpu1`. By arithmetic the selector takes about three minutes on one H100, scoring
a pool of 92 MB one, twelve targets ten, their evaluations three. At laptop scale the small selector's heads
do not copy, and the run stops with a sentence that says so.
"""

from typing import ClassVar, Literal

from experiments.attention_influence.ablations import (
    Grid,
    cells,
    find,
    losses_stage,
    parts,
    selections,
    targets,
)

__all__ = ["Config", "cells", "find", "losses_stage", "parts", "selections", "targets"]


class Config(Grid):
    """What `configs/experiment/attention_influence/selector_size.yaml` binds to."""

    TITLE: ClassVar[str] = "AttentionInfluence, selector size, default setting"
    PAGE: ClassVar[str] = "Selector size"
    name: Literal["attention_influence/selector_size"]
