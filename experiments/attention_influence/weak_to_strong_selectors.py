"""Weak to strong, two selectors: is what a fourth of its size chooses worth more, or less, to a target?

Hypothesis (AttentionInfluence, arXiv 2505.07293, Section 5): a small model's choice helps a larger one.
`weak_to_strong` has a selector as large as its targets, and `weak_to_strong_360m` the pair 135M and 360M.
Here is the pair below: 31 million parameters choose for 124 million. Everything but the selector is that of
`weak_to_strong`, of which the first setting is the table itself:

- `default`: SmolLM2-135M-Instruct, trained by others on 2T tokens.
- `small-selector`: 31M parameters from scratch, 60M tokens of this pool and no other. Its probes have at most
  2,048 tokens, which is its context.

Known when this was written: on a pool half as large the two rank alike (Spearman 0.57 within domains), and
with targets of 31 million parameters both lost to random (docs/LOG.md, selector size).

Analysis plan: that of `ablations`, of which this is one factor: agreement of rankings and selections, and
each selector's own comparison with random at equal tokens, paired over three seeds and items; two p-values,
Holm-corrected. The two are not compared with each other. For the method: the small selector's heads copy
(otherwise finding them is refused, and that is the result) and its selection beats random. No seed or column
is dropped afterwards.

Expected: agreement as on the smaller pool, and the verdict of `weak_to_strong` for both, whichever it is.

Time on one H100 by arithmetic: the selector one minute, its pass over the pool one, three cells of twelve
minutes; all others are those of `weak_to_strong`.
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
    """What `configs/experiment/attention_influence/weak_to_strong_selectors.yaml` binds to."""

    TITLE: ClassVar[str] = "AttentionInfluence, weak to strong, two selectors, default setting"
    PAGE: ClassVar[str] = "Weak to strong, two selectors"
    name: Literal["attention_influence/weak_to_strong_selectors"]
