"""Is it coverage, at another size: targets of 31 million parameters, trained from scratch.

Hypothesis, arms, seeds, columns, plan and goal: those of `coverage`, of which this is the other size. Each
target sees its fifth alone, five times over in 60 million tokens, and not the pool beside it as in
`improved_scratch`: with the whole pool in every arm nothing is left to cover.

Expected: larger differences on plain text than with continued pretraining, since a model from scratch has
learned nothing from elsewhere; none on looking up, which models of this size hardly do.

Time on one H100 by arithmetic: 20 cells of about a minute.
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
    """What `configs/experiment/attention_influence/coverage_scratch.yaml` binds to."""

    TITLE: ClassVar[str] = "Coverage, from scratch"
    ASKED: ClassVar[tuple[str, ...]] = ("coverage", "influence_coverage")
    name: Literal["attention_influence/coverage_scratch"]
