"""Three arms on a small pool: what a sweep over any setting is made of.

Hypothesis (AttentionInfluence, arXiv 2505.07293, Section 4.2): the selected share is worth repeating
whether it is a tenth or a half of the pool. `airlab run -m experiment=sweep selecting.share=0.1,0.2,0.5`
asks each share against random at the same share and at equal tokens.

Analysis plan: each job as in `main`, with the one composite; p-values are Holm-corrected over all jobs and
arms of the sweep, the full pool's comparisons included. No job, arm, seed or column is dropped afterwards.
A sweep over another setting has its hypothesis where it is written about.

Expected at laptop scale: nothing that can be told from random (as in `main` and `controls`, with fewer
tokens than `main`); the detectable differences say how little that means. Against the method: a share at
which random wins.

Time at laptop scale, by what `controls` took, whose pool and budget this shares: pool, model and heads 1.2
minutes, one pass 2.8, and 21 cells of 25.3 s (three of the full pool, shared by the jobs, and for each
share three of random and three of influence) 8.9; three processes that start and write their tables, up to
1. In all about 14 minutes, 8 fewer where the controls are in the store.
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
    """What `configs/experiment/attention_influence/sweep.yaml` binds to."""

    TITLE: ClassVar[str] = "AttentionInfluence, three arms"
    name: Literal["attention_influence/sweep"]
