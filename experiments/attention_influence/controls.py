"""Controls: if attention influence helps, is it the retrieval heads, or something that goes along with them?

Hypothesis (AttentionInfluence, arXiv 2505.07293): upsampling what most depends on retrieval heads trains a
better target, and it does so because of those heads, not because of what their scores go along with. Arms,
each against a random fifth at equal tokens, and what each would say; chosen, and written, before any target
of this experiment was trained:

- `attention_influence`: the method. For it: its composite beats random.
- `length_matched_random`: anything, as long as what influence selects. Against the method: it beats
  random too, for then length is enough.
- `random_heads`: influence of other heads of the same layers. Against it: it does as well, for then
  retrieval heads are not what matters.
- `influence_low`: the other end of the ranking. Against it: it beats random too, for then the ranking
  has no direction.
- `loss_gap`: the loss's increase, not divided by it. Says whether the formula matters.
- `attention_influence_residual`: what length and repetition do not predict. Against it: influence beats
  random and this does not, for then what was predicted was the benefit.
- `zero_mask`: the heads' output removed instead of made uniform. Against it: the sign changes, for then
  the result hangs on how a head is masked.
- `repetition_high`: texts that repeat themselves. Against it: it does as well without any model.

Expected at laptop scale: nothing. The main table found no effect of any arm, with 80 % power only from
0.2 to 0.7 of the composite's units, and targets here see two fifths of its tokens. An arm that does not beat
random is evidence of nothing beyond the detectable difference printed beside it, and where influence itself
does not beat random, no control can count for or against it. This scale shows that the comparison runs;
the question is for a scale whose targets can copy.

Analysis plan: as in `main` (equal tokens, same seeds, differences paired over items and seeds against
`random`, one composite a verdict). P-values are Holm-corrected over all nine arms compared with random. No
two other arms are compared with each other, so "as well as" is read off two intervals and is a description,
not a test. No arm, seed or column is dropped afterwards.

The confound audit needs no targets, so it also covers selectors that are not trained on. It holds every
ranking (at the first seed) against length, repetition, compression ratio, base loss and domain, and every
selection against influence's. An audit of most of these selectors on the larger laptop pool was known
when this was written (docs/LOG.md); `random_heads` and `zero_mask` were in none. Against the method: the
confounds explain nearly all of influence's variance within domains (there it was half), or `random_heads`
selects nearly what influence selects (a Jaccard index above one half; chance is one ninth).

`random_heads_1`, another draw, joined the audit after the first laptop run, when one head was found to break
the model by itself (docs/LOG.md): draw 0 masks it, draw 1 does not.

Five more joined it later, before any was audited on this pool, so that every selector is in it that needs no
hub; the page names the two that do. `ifd` was known from the larger pool, where it is nearly the opposite of
influence. `loss_high`, `compression_low` and `repetition_low` are the other ends of rankings that were there.
`dsir_task`, in no audit before, goes towards the evaluation's worked problems. Against the method: it selects
nearly what influence selects (a Jaccard index above one half), for then words find it without a model.
Expected: short documents, as with `dsir`, since both sum over n-grams, and little in common.

Time at laptop scale on two CPU cores: about 29 minutes with the install. 24 were measured before the second
draw, whose pass takes 2.8 more, and before `ifd`, whose pass over halves takes 2.1 by its processor time. The
pool has two fifths of the main table's bytes in every domain, 195 documents of 93,000 tokens, so that the
passes fit; targets train on 122,880 tokens, one pass over the pool and its selected fifth.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, PositiveInt, SerializeAsAny, model_validator

from airlab.reporting.audit import AUDIT, AuditTable, audit_page
from airlab.reporting.findings import Findings
from airlab.reporting.tables import IncompleteTable
from airlab.selection.selectors import make_selector
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.selectors.dsir import Dsir
from airlab.stages.audit_selectors import AuditSelectors, read_audit
from airlab.stages.measure_text import MeasureText
from airlab.stages.score_measured_units import score_stage
from airlab.store.stage import Stage
from airlab.store.store import Store
from experiments.attention_influence.comparison import (
    Comparison,
    cell_stages,
    cells,
    losses_stage,
    selections,
    tabulate,
)

__all__ = ["Config", "audit_stage", "cells", "find", "losses_stage", "selections", "targets"]

METHOD = "attention_influence"
NEED_A_HUB = ("fineweb_edu", "two_model_gap")
"""Selectors that are in the audit where they are added, +selector@audited.fineweb_edu=fineweb_edu, say."""


class Config(Comparison):
    """What `configs/experiment/attention_influence/controls.yaml` binds to."""

    TITLE: ClassVar[str] = "AttentionInfluence, controls"
    name: Literal["attention_influence/controls"]
    audited: dict[str, Annotated[SerializeAsAny[SelectorBase], BeforeValidator(make_selector)]]
    """Selectors in the audit that no target is trained on."""
    audit_resamples: PositiveInt

    @model_validator(mode="after")
    def _audit_is_possible(self) -> Self:
        if METHOD not in self.selectors:
            raise ValueError(f"selectors must have {METHOD}, which every selection is compared with")
        if both := sorted(self.selectors.keys() & self.audited.keys()):
            raise ValueError(f"every arm is audited; leave {', '.join(both)} out of audited")
        return self


def audit_stage(config: Config) -> AuditSelectors:
    """The audit of all arms' rankings, and of those that are audited only, at the first seed."""
    losses, seed = losses_stage(config), config.seeds[0]
    everyone = _everyone(config)
    # An arm is scored exactly as its cells are, so it may build on other arms only.
    scores = [
        score_stage(
            losses,
            selector,
            seed,
            config.selectors if name in config.selectors else everyone,
            config.evaluation,
        )
        for name, selector in everyone.items()
    ]
    return AuditSelectors(
        losses,
        MeasureText(losses.corpus),
        tuple(everyone),
        tuple(scores),
        config.selecting,
        config.audit_resamples,
    )


def _everyone(config: Config) -> dict[str, SelectorBase]:
    return {**config.selectors, **config.audited}


def targets(config: Config) -> dict[str, Stage]:
    """The audit, which is there long before the last target, and every cell of the table."""
    return {AUDIT: audit_stage(config), **cell_stages(config)}


def find(config: Config, store: Store, *, partial: bool = False) -> Findings:
    """What is published, from finished artifacts.

    Raises:
        IncompleteTable: a cell or the audit has no result and `partial` is off.
    """
    table = tabulate(config, store, partial=partial)
    folder = store.find(audit_stage(config))
    if folder is None:
        if not partial:
            raise IncompleteTable("the confound audit has no result")
        return Findings(table)
    shown = AuditTable(
        title=f"Confound audit, scale {config.scale}",
        audit=read_audit(folder),
        compared=METHOD,
        resamples=config.audit_resamples,
        notes=_notes(config),
    )
    return Findings(table, (audit_page(shown),))


def _notes(config: Config) -> tuple[str, ...]:
    everyone = {name.replace("_", " "): selector for name, selector in _everyone(config).items()}
    notes = [f"Selectors that draw at random do so with seed {config.seeds[0]}."]
    if goals := [f"{name}, {s.target}" for name, s in everyone.items() if isinstance(s, Dsir)]:
        notes.append(f"Targets of DSIR: {'; '.join(goals)}.")
    if absent := [name for name in (n.replace("_", " ") for n in NEED_A_HUB) if name not in everyone]:
        notes.append(f"Not audited, since they need a hub: {', '.join(absent)}.")
    return tuple(notes)
