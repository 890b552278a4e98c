"""Is it coverage? A fifth chosen to hold what the pool says, against a random fifth of the same lengths.

Where it comes from (`coverage_audit`, looked at afterwards): among the arms of `continued`, the smaller a
part of held-out text's token 4-grams an arm's training text holds, the higher its loss there (Pearson -0.54
to -0.90 over arms, by domain); influence's fifth holds the least or nearly so in three of five domains. That
is a correlation over eleven arms, and long documents go against it: they hold more, and lose.

Hypothesis: a fifth loses to a random one on plain text because it holds less of what held-out text says.
Then a fifth that holds more, at the same lengths and as many tokens, beats random. Arms, each on its fifth
alone, repeated up to the budget:

- `coverage`: phrases that many documents share, each once, without any model. For it: it beats random on
  plain text. Against it: it does not.
- `influence_coverage`: the same, but phrases count by the influence (AttentionInfluence, arXiv 2505.07293)
  of the documents that share them. What is left of the method when its fifth says nothing twice: for the
  method, it beats random on looking up and reasoning.

Before any target was trained it was seen that on held-out text both hold more 4-grams than a random fifth
in every domain (by 0.005 to 0.017), a tenth to a half of the way to the full pool's stream, which beat random
by 0.05; neither selector reads that text. Seeds 6 to 10, which no other table uses; five, since what is
expected is small.

Analysis plan. That of `continued`, over its own arms. The goal of `improved` stands for these two selectors
as well: an interval clear of zero against random on the composite of looking up and reasoning,
Holm-corrected, at both sizes (`coverage_scratch`), and no Holm-corrected loss on plain text at either.
Expected: `coverage` gains 0.01 to 0.03 on plain text; nothing can be told of looking up and reasoning.

Time on one H100 by arithmetic: 20 cells of about a minute and a half; what is measured is shared with
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
    """What `configs/experiment/attention_influence/coverage.yaml` binds to."""

    TITLE: ClassVar[str] = "Coverage, continued pretraining"
    ASKED: ClassVar[tuple[str, ...]] = ("coverage", "influence_coverage")
    name: Literal["attention_influence/coverage"]
