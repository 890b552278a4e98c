"""AIR at a tenth of the data: do selectors differ more where less is kept?

Hypothesis (AIR, arXiv 2512.13279): the fewer samples are kept, the more it matters which. Arms are the
selections of `main`, at a tenth of the response tokens instead of a quarter, and mean the same; step weights,
adapters and distillation are `main`'s alone. `base` and `full_data` are the very cells of `main`.

Analysis plan: that of `main`, over these arms. The two shares are read side by side and not tested against
each other. For the hypothesis and the method: `attention_influence` beats `random` here, and by more than
there. Against it: `random_heads` does as well, or `full_data` is so far above all tenths that choosing is
beside the point.

Known when this was written: at laptop scale, thirty traces an arm, nothing could be told from random.
Expected: every tenth far below `full_data`, `loss_high` and `entropy` below random since they keep broken
traces, influence within what can be told from random.

Time on one H100 by arithmetic: some seconds of training and twenty of evaluation for each of 24 cells.
"""

from typing import ClassVar, Literal

from experiments.air.main import Comparison, find, selections, targets

__all__ = ["Config", "find", "selections", "targets"]


class Config(Comparison):
    """What `configs/experiment/air/tenth.yaml` binds to."""

    TITLE: ClassVar[str] = "AIR, a tenth of the data"
    name: Literal["air/tenth"]
