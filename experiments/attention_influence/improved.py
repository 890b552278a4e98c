"""Improved selectors: what is left of attention influence when its known faults are taken out of it?

Where influence lost to random (docs/LOG.md, selector size), the audit points at what it goes along with:
repetition, length, base loss, and other heads' influence. Hypothesis: without these, it beats random. Two
selectors mend it, each by one idea:

- `influence_excess`: what retrieval heads do for a document beyond what other heads of their layers, its
  length and its repetition predict. Against it: it does no better than random, for then nothing in the
  score is about retrieval heads.
- `influence_novel`: influence among documents that say something new, so that a fifth by influence holds as
  much text as any. Against it: it does no better than random, for then the loss was not repetition's.
- `random_heads`: other heads of the same layers, which `influence_excess` is built on. Against both: it
  does as well.
- `attention_influence`: what is to be improved.

They were written, and their hypotheses stand in their modules, before any target was trained on either;
`development` tries them, with a third, on seeds and columns of its own. This table is the confirmation, on
seeds that nothing was chosen by and with a domain that `development` never looked at, reference text, among
its columns. If `development` puts its third first by its composite of looking up and reasoning, that one
takes the place of the worse of these two, by a commit of its own before a cell of either is made; nothing
else may change. The cells of `random`, `attention_influence` and `random_heads`, which stay whatever
`development` says, may be made before it is read, and wait unread.

Targets are SmolLM2-135M-Instruct trained further, as in `continued`; `improved_scratch` is the same table
with targets of 31 million parameters from scratch, so that there are two sizes.

Analysis plan. That of `continued`, over its own arms. The goal, and nothing less is called an improvement:
an interval clear of zero against random on the composite of looking up and reasoning, Holm-corrected, at
both sizes, and no Holm-corrected loss to random on plain text at either. Expected: `influence_novel` does
not lose on plain text and gains little elsewhere; `influence_excess` gains on key retrieval alone.

Time on one H100 by arithmetic: 18 cells of a little more than a minute; what is measured is shared with
`continued`.
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
    """What `configs/experiment/attention_influence/improved.yaml` binds to."""

    TITLE: ClassVar[str] = "Improved selectors, continued pretraining"
    ASKED: ClassVar[tuple[str, ...]] = ("influence_excess", "influence_novel", "attention_influence")
    name: Literal["attention_influence/improved"]
