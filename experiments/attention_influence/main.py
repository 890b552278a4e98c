"""The main table: does data chosen by attention influence train a better target?

Hypothesis (AttentionInfluence, Table 1): a target pretrained on the full pool plus the fifth of it
with the highest attention influence does better than one pretrained on the full pool alone, at equal
tokens, and most so where text has to be reasoned about or looked up in the context. The paper has no
control for having repeated *some* fifth; here the comparison that counts is with a random fifth.

Analysis plan, fixed before the runs: every arm trains on the same number of tokens with the same
seeds; differences are paired over items and seeds against `random`; one composite, the mean over the
columns below in units of the full-pool arm's spread between items, decides each verdict; p-values are
Holm-corrected over the arms. No arm, seed or column is dropped afterwards.
"""

from typing import ClassVar, Literal

from experiments.attention_influence.comparison import (
    Comparison,
    cell_stages,
    cells,
    find,
    losses_stage,
    selections,
)

__all__ = ["Config", "cells", "find", "losses_stage", "selections", "targets"]

targets = cell_stages


class Config(Comparison):
    """What `configs/experiment/attention_influence/main.yaml` binds to."""

    TITLE: ClassVar[str] = "AttentionInfluence, main comparison"
    name: Literal["attention_influence/main"]
