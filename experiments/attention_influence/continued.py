"""Continued pretraining: does a chosen fifth make a model better that can look things up already?

Targets trained from scratch in minutes hardly copy, so what attention influence promises has nowhere to
show there (docs/LOG.md). SmolLM2-135M-Instruct does: it finds nine answers in ten probes. Here it is itself
trained further, on what each selector takes, all arms on equally many tokens.

Hypothesis (AttentionInfluence, arXiv 2505.07293, Section 4): text that needs retrieval heads exercises
them, so that training on the fifth with the highest influence makes a model better at looking things up and
at reasoning than training on a random fifth. Arms, each on its fifth alone, repeated up to the budget, and
what each would say:

- `attention_influence`: the method. For it: it beats random.
- `attention_influence_residual`: what length and repetition do not predict. Against it: influence beats
  random and this does not, for then what was predicted was the benefit.
- `length_matched_random`: anything as long as what influence selects. Against it: it beats random too.
- `random_heads`: influence of other heads of the same layers (the draw that breaks nothing). Against it: it
  does as well.
- `influence_low`: the other end of the ranking. Against it: it beats random too.
- `loss_high`, `loss_low`, `entropy`, `length`: what is cheap. Against it: one does as well.

`full_pool` goes through the pool in its own proportions, less than once; `base` is the model as it came,
the same beside every seed. Known when this was written: a trial with one seed (4 million tokens, twice)
reached held-out losses of 1.774 by influence, 1.711 at random and 1.775 by the lowest influence, and
in-context retrieval losses of 3.17, 3.30 and 3.43 in that order. Expected therefore: influence above random
on what is looked up, below it on plain text, and a verdict on the composite of the table that may go either
way.

Analysis plan. Differences paired over items and seeds against `random`; the composite over all columns
decides each verdict; p-values Holm-corrected over all arms, `base` included. A second page, fixed as well,
holds two composites apart, looking up and reasoning (key retrieval by margin, copying, worked reasoning and
its final answers) and plain text (bits per byte of every domain), Holm-corrected over both and all arms
together. For the method: influence beats random on the first. That it does not lose on the second is asked
too. No two other arms are compared. No arm, seed or column is dropped afterwards.

The learning rate is low and the same for every arm. It is chosen on `full_pool` alone, with seed 100 that
no table uses, of 3e-5, 1e-4 and 3e-4, by the mean bits per byte of held-out text of all domains after 5
million tokens, before any other arm is trained; the choice is noted in docs/LOG.md.

What this is not: the pool is no web text and parts of it may have been in the model's own training; the
model is tuned to follow instructions; and a model chooses what it is itself trained on, so this is no test
of weak to strong. `replayed` mixes the same selections with the pool at large.

Time on one H100 by arithmetic: heads and two passes over 167 MB of text four minutes, then for each of 34
cells about a minute of training (20 million tokens) and ten seconds of evaluation. Other scales show that
it runs.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

from airlab.errors import UserError
from airlab.reporting.findings import Findings
from airlab.reporting.goals import goals_page
from airlab.reporting.tables import Row, TableSpec, build_table
from airlab.stages.build_mixture import BuildMixture
from airlab.stages.continue_pretraining import ContinuePretraining
from airlab.stages.evaluate import Evaluate
from airlab.store.stage import Stage
from airlab.store.store import Store
from experiments.attention_influence import comparison
from experiments.attention_influence.comparison import Comparison, losses_stage, tasks_input, trained_cells
from experiments.base import Cell, cell_records

__all__ = ["Config", "cells", "find", "losses_stage", "selections", "targets"]

BASE = "base"


class Continuation(Comparison):
    """A comparison whose targets are the selector's own model; of `target` only the context is used."""

    name: str


class Config(Continuation):
    """What `configs/experiment/attention_influence/continued.yaml` binds to."""

    TITLE: ClassVar[str] = "AttentionInfluence, continued pretraining"
    name: Literal["attention_influence/continued"]


def cells(config: Continuation) -> tuple[Cell, ...]:
    """Every arm and seed that is trained, baseline first.

    Raises:
        UserError: parts that do not go together, found before anything runs.
    """
    losses = losses_stage(config)
    model = losses.model
    if not isinstance(model, Stage):
        raise UserError(
            "the model that is trained further comes from a package, a hub or a GGUF file; "
            "leave model=smollm2-135m, or use model=hub."
        )

    def trained(mixture: BuildMixture) -> ContinuePretraining:
        return ContinuePretraining(model, mixture, config.training)

    return trained_cells(config, losses, model, config.target.context, trained)


def base_cell(config: Continuation) -> Cell:
    """The model as it came."""
    losses, seed = losses_stage(config), config.seeds[0]
    tasks = tasks_input(config.evaluation, losses.corpus)
    return Cell(BASE, seed, Evaluate(losses.model, tasks, seed, config.evaluation_batch_size))


def targets(config: Continuation) -> dict[str, Stage]:
    """The stages behind the table, by the names that its lock gives them."""
    return {cell.name: cell.evaluation for cell in (base_cell(config), *cells(config))}


def table_spec(config: Continuation) -> TableSpec:
    """Rows, columns and the composite, known before any result."""
    spec = comparison.table_spec(config)
    return replace(spec, rows=(Row(BASE, "base, as it came"), *spec.rows))


def find(config: Continuation, store: Store, *, partial: bool = False) -> Findings:
    """The table, and the page of the two goals, from finished cells.

    Raises:
        IncompleteTable: a cell has no result and `partial` is off.
    """
    records = cell_records((base_cell(config), *cells(config)), store)
    # Nothing was drawn for the base: it is the same model beside every seed.
    records[BASE] = [replace(record, seed=seed) for seed in config.seeds for record in records.get(BASE, [])]
    spec = table_spec(config)
    table = build_table(spec, records, partial=partial)
    page = goals_page(f"{config.TITLE}, two goals, scale {config.scale}", spec, records, partial=partial)
    return Findings(table, () if page is None else (page,))


def selections(config: Continuation, store: Store) -> Mapping[str, Mapping[str, Any]]:
    """What each selector took, at the first seed: documents and tokens by domain."""
    return comparison.selections_of(cells(config), store)
