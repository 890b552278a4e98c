"""Improved selectors at another size: targets of 31 million parameters, trained from scratch.

Hypothesis, arms, seeds, columns, plan and goal: those of `improved`, of which this is the other size. Each
target sees the whole pool and its selected fifth once more at a time (the paper's mixture), 60 million
tokens in all, about as many as made heads that copy appear in a model of this shape (docs/LOG.md, selector
size). Nothing is chosen by this table.

Expected: smaller differences than with continued pretraining, since two thirds of every arm's tokens are
the same.

Time on one H100 by arithmetic: 18 cells of about a minute of training and ten seconds of evaluation. Other
scales show that it runs.
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
    """What `configs/experiment/attention_influence/improved_scratch.yaml` binds to."""

    TITLE: ClassVar[str] = "Improved selectors, from scratch"
    ASKED: ClassVar[tuple[str, ...]] = ("influence_excess", "influence_novel", "attention_influence")
    name: Literal["attention_influence/improved_scratch"]
