"""Ablations on a GPU: the choices of `ablations` that matter most, a large pool, targets of 31M parameters.

Hypothesis and reading: those of `ablations`. One factor at a time around the default (the top 5 % of heads,
uniform attention, the loss increase relative to the base loss, the top 20 % of documents of each domain,
repeated beside the full pool):

- `heads-1`, `heads-10`: the share of heads that is masked.
- `zero-mask`: the heads' output removed.
- `absolute-gap`: the increase in nats a token, not relative to the base loss.
- `share-10`, `share-50`: how much of the pool is selected.

Analysis plan: that of `ablations`, over these seven settings and the large pool: agreement of rankings and
selections with the default's, and each setting's own comparison, attention influence against random under the
same setting, paired over three seeds and items, seven p-values, Holm-corrected. No two variants are compared
with each other. No variant, arm, seed or column is dropped afterwards.

Known when this was written: on a pool of 92 MB, with a third of these tokens, the default lost to random with
targets of this size, -0.18 [-0.29, -0.07] (docs/LOG.md, selector size); at laptop scale no setting could be
told from another. Expected: the default loses again, `share-50` least, since it repeats least; `absolute-gap`
loses less than the default, for it does not favour what the model predicts well; `heads-1` ranks like the
default (Spearman within domains above 0.8).

Targets have 31 million parameters and train on 60M tokens of the large pool. Time on one H100 by arithmetic:
four passes of three quarters of a minute, 33 cells of a minute and a half.
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
    """What `configs/experiment/attention_influence/ablations_31m.yaml` binds to."""

    TITLE: ClassVar[str] = "AttentionInfluence, ablations with 31M parameters, default setting"
    PAGE: ClassVar[str] = "Ablations, 31M parameters"
    name: Literal["attention_influence/ablations_31m"]
