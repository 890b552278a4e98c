"""Weak to strong, 360 million parameters: is what a small model chooses worth more, or less, to a larger one?

Hypothesis (AttentionInfluence, arXiv 2505.07293, Section 5): what a selector of 135 million parameters
chooses helps a target of 2.7 times its size as it helps one of its own. Arms and pool are those of
`weak_to_strong`; 210 million tokens.

Analysis plan: that of `weak_to_strong`. The two sizes are read side by side and not tested against each
other. For the method: the sign of influence's composite against random is the same at both sizes, and
positive.

Expected: the same sign, whichever it is; fewer passes over the pool than at 124 million parameters, so less
harm from repeating.

Time on one H100 by arithmetic: nine cells of about 22 minutes, at 160,000 tokens a second, which nobody has
measured.
"""

from typing import ClassVar, Literal

from experiments.attention_influence.comparison import (
    Comparison,
    cell_stages,
    cells,
    losses_stage,
    selections,
)
from experiments.attention_influence.weak_to_strong import find

__all__ = ["Config", "cells", "find", "losses_stage", "selections", "targets"]

targets = cell_stages


class Config(Comparison):
    """What `configs/experiment/attention_influence/weak_to_strong_360m.yaml` binds to."""

    TITLE: ClassVar[str] = "AttentionInfluence, weak to strong, 360M"
    name: Literal["attention_influence/weak_to_strong_360m"]
