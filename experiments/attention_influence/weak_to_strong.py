"""Weak to strong: does a selector of 135 million parameters choose for targets of its own size, from scratch?

Hypothesis (AttentionInfluence, arXiv 2505.07293, Section 5): a target pretrained on the pool with the fifth
of highest influence repeated does better than with a random fifth repeated, at equal tokens. Known when
this was written: with 31 million parameters and 21 million tokens of a smaller pool it lost, -0.18 [-0.29,
-0.07] (docs/LOG.md, selector size). That is a fourth of this size and a fifteenth of these tokens, and its
targets hardly copied.

Targets of 124 million parameters (with a vocabulary of their own of 49,152) on 315 million tokens of the
large pool, each arm with three seeds: full pool, random, attention influence. `weak_to_strong_arms` has
every other selector at one seed, `weak_to_strong_selectors` a smaller selector's choice, and
`weak_to_strong_360m` these three arms at the next size. Six to seven passes over the pool are many, and
repeating a fifth makes them twelve to fourteen for it: what this table says of repeated text it says of text
repeated often.

Analysis plan. As in `main`: differences paired over items and seeds against `random`, the composite over
all columns decides the verdict, Holm-corrected; and the page of two goals, looking up and reasoning apart
from plain text, as in `continued`. No arm, seed or column is dropped afterwards. For the method: influence
beats random on the composite; short of that, on looking up and reasoning without a loss on plain text.

Expected: a loss on plain text again, smaller than at 31 million parameters, and on looking up nothing that
three seeds can tell.

Time on one H100 by arithmetic: nine cells of twelve minutes, at 450,000 tokens a second. Other scales show
that it runs.
"""

from typing import ClassVar, Literal

from airlab.reporting.findings import Findings
from airlab.reporting.goals import goals_page
from airlab.reporting.tables import build_table
from airlab.store.store import Store
from experiments.attention_influence.comparison import (
    Comparison,
    cell_stages,
    cells,
    losses_stage,
    selections,
    table_spec,
)
from experiments.base import cell_records

__all__ = ["Config", "cells", "find", "losses_stage", "selections", "targets"]

targets = cell_stages


class Config(Comparison):
    """What `configs/experiment/attention_influence/weak_to_strong.yaml` binds to."""

    TITLE: ClassVar[str] = "AttentionInfluence, weak to strong"
    name: Literal["attention_influence/weak_to_strong"]


def find(config: Comparison, store: Store, *, partial: bool = False) -> Findings:
    """The table, and the page of the two goals, from finished cells.

    Raises:
        IncompleteTable: a cell has no result and `partial` is off.
    """
    spec, records = table_spec(config), cell_records(cells(config), store)
    table = build_table(spec, records, partial=partial)
    page = goals_page(f"{config.TITLE}, two goals, scale {config.scale}", spec, records, partial=partial)
    return Findings(table, () if page is None else (page,))
