"""Development of improved selectors, on seeds and columns that confirm nothing.

Hypothesis: that of `improved`, whose two candidates are here, and that a third does as well which uses
nothing new:

- `influence_excess`, `influence_novel`: see `improved`.
- `influence_balanced`: the sum of two ranks, influence and base loss, since influence takes what the model
  predicts well (Spearman -0.81) and leaves what it could learn.
- `random_heads`, `attention_influence`: for comparison.

Seeds 100 and 101, which no other table uses; no column of reference text, which is kept for confirmation.
Two seeds claim nothing, and are not meant to. What is read off this table, and nothing else: which
candidate has the highest composite of looking up and reasoning on its page of two goals.

Analysis plan: that of `continued`. Arms are not added after this table was seen once; a further idea needs
further seeds. Expected: differences below what two seeds can tell.

Time on one H100 by arithmetic: 14 cells of a little more than a minute.
"""

from typing import ClassVar, Literal

from experiments.attention_influence.continued import (
    Continuation,
    cells,
    find,
    losses_stage,
    selections,
    targets,
)

__all__ = ["Config", "cells", "find", "losses_stage", "selections", "targets"]


class Config(Continuation):
    """What `configs/experiment/attention_influence/development.yaml` binds to."""

    TITLE: ClassVar[str] = "Improved selectors, development"
    ASKED: ClassVar[tuple[str, ...]] = (
        "influence_excess",
        "influence_novel",
        "influence_balanced",
        "attention_influence",
    )
    name: Literal["attention_influence/development"]
