"""Continued pretraining with replay: the selections of `continued`, mixed with the pool at large.

Hypothesis: a model that is trained on a chosen fifth alone forgets what the fifth lacks, and that, not what
was chosen, is what it loses on plain text. Mixed with text as it comes, what a selection teaches stays and
the loss goes. Arms are those of `continued`, and mean the same; each goes once through the pool and once
more through its fifth at a time, up to the same budget, so about a third of its tokens are selected. The
model's own pretraining text cannot be had; the pool stands for it, which is a limit of this page and no
detail.

Analysis plan, learning rate, columns and corrections: those of `continued`. The two tables are not compared
with each other: each arm has its random fifth under the same mixture. For the hypothesis: arms that lose to
random on plain text in `continued` do not lose here. For the method: influence beats random on looking up
and reasoning.

Expected: all differences a third to a half of those in `continued`, and so mostly below what can be told.

Time on one H100 by arithmetic: what `continued` takes for its cells; the passes, the base and `full_pool`
are shared with it. `full_pool` is the same arm.
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
    """What `configs/experiment/attention_influence/replayed.yaml` binds to."""

    TITLE: ClassVar[str] = "AttentionInfluence, continued pretraining with replay"
    name: Literal["attention_influence/replayed"]
