"""Weak to strong, every selector: the arms of `weak_to_strong` and seven more, at one seed.

Hypothesis: that of `weak_to_strong`, whose first seed's cells are here too. The others are its controls,
and what each would say is what it says in `continued`:

- `attention_influence_residual`, `length_matched_random`, `random_heads`, `influence_low`: controls.
- `loss_high`, `entropy`, `length`: what is cheap.
- `attention_influence`: the method.

Analysis plan: that of `weak_to_strong`. One seed tells nothing about another, so nothing is claimed from
this table, whatever its intervals over items; it says which arms are worth two more seeds. No arm is
dropped afterwards.

Expected: all arms within 0.3 of random.

Time on one H100 by arithmetic: seven cells of twelve minutes besides the three that are shared.
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
    """What `configs/experiment/attention_influence/weak_to_strong_arms.yaml` binds to."""

    TITLE: ClassVar[str] = "AttentionInfluence, weak to strong, every selector"
    name: Literal["attention_influence/weak_to_strong_arms"]
