"""Selection report: how every selector ranks a large pool, and what each takes of it. Nothing is trained.

Hypothesis: what was seen on a few hundred documents (docs/LOG.md, the audit of the controls) is a property
of attention influence (arXiv 2505.07293) and not of that pool. On 167 MB of text, a third of it from
sources that were in no audit before, the four confounds (length, repetition, compression ratio, base loss)
explain about half of the variance of influence's ranks within domains, and its fifth holds longer documents
than a random one in every domain.

Analysis plan. All rankings at the first seed, all selections by the same rule. Spearman with each confound,
over all documents and of ranks within domains, with percentile bootstrap intervals over documents; what the
confounds explain together and what each adds; the overlap of every pair of selections; documents and tokens
by domain. A description: nothing is tested. Against the method: the confounds explain nearly all of
influence's variance within domains, or other heads of the same layers select what it selects (a Jaccard
index above one half; chance is one ninth). For the improved selectors: `influence_excess` is at zero with
other heads' influence's confounds by construction, so what counts is that it still shares more with
influence than chance; `influence_novel` takes less repetition than influence and shares at least half.

Expected: as on the small pool, Spearman with base loss within domains -0.5 to -0.7, with repetition 0.4 to
0.6, with length 0.3 to 0.5; generated problems, a quarter of the pool's text, differ from all else.

Selectors that take a pass of their own are left to `controls` (`zero_mask`, `ifd`), but for one draw of
other heads, which `continued` needs too. Those that need a hub are in neither.

Time on one H100 by arithmetic: heads half a minute, two passes three; the audit then takes minutes of a
CPU.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, PositiveInt, SerializeAsAny, model_validator

from airlab.reporting.audit import AUDIT, AuditTable, audit_page
from airlab.reporting.findings import Findings
from airlab.reporting.tables import IncompleteTable
from airlab.schema.evaluation import EvaluationSpec
from airlab.selection.selectors import make_selector
from airlab.selection.selectors.base import SelectorBase
from airlab.stages.audit_selectors import AuditSelectors, read_audit
from airlab.stages.measure_text import MeasureText
from airlab.stages.score_measured_units import score_stage
from airlab.stages.select_units import SelectUnits
from airlab.store.stage import Stage
from airlab.store.store import Store
from experiments.attention_influence.comparison import losses_stage, taken_by_domain
from experiments.base import Experiment

__all__ = ["Config", "find", "losses_stage", "selections", "targets"]

METHOD = "attention_influence"
LOSSES = "losses"


class Config(Experiment):
    """What `configs/experiment/attention_influence/selection.yaml` binds to; nothing is pretrained."""

    name: Literal["attention_influence/selection"]
    selectors: dict[str, Annotated[SerializeAsAny[SelectorBase], BeforeValidator(make_selector)]]
    evaluation: EvaluationSpec
    """Selectors may name one of its tasks as their target."""
    audit_resamples: PositiveInt

    @model_validator(mode="after")
    def _audit_is_possible(self) -> Self:
        if METHOD not in self.selectors:
            raise ValueError(f"selectors must have {METHOD}, which every selection is compared with")
        return self


def select_stages(config: Config) -> dict[str, SelectUnits]:
    """What each selector takes, at the first seed."""
    losses, seed = losses_stage(config), config.seeds[0]
    return {
        name: SelectUnits(
            score_stage(losses, selector, seed, config.selectors, config.evaluation), config.selecting
        )
        for name, selector in config.selectors.items()
    }


def audit_stage(config: Config) -> AuditSelectors:
    """The audit of all rankings."""
    losses, selected = losses_stage(config), select_stages(config)
    return AuditSelectors(
        losses,
        MeasureText(losses.corpus),
        tuple(selected),
        tuple(stage.scores for stage in selected.values()),
        config.selecting,
        config.audit_resamples,
    )


def targets(config: Config) -> dict[str, Stage]:
    """The losses, every selection, and the audit, by the names that the lock gives them."""
    selected = {f"selection/{name}": stage for name, stage in select_stages(config).items()}
    return {LOSSES: losses_stage(config), **selected, AUDIT: audit_stage(config)}


def find(config: Config, store: Store, *, partial: bool = False) -> Findings:
    """The audit's page.

    Raises:
        IncompleteTable: the audit has no result and `partial` is off.
    """
    folder = store.find(audit_stage(config))
    if folder is None:
        if not partial:
            raise IncompleteTable("the confound audit has no result")
        return Findings()
    shown = AuditTable(
        title=f"Selection report, scale {config.scale}",
        audit=read_audit(folder),
        compared=METHOD,
        resamples=config.audit_resamples,
        notes=(f"Selectors that draw at random do so with seed {config.seeds[0]}.",),
    )
    return Findings(None, (audit_page(shown),))


def selections(config: Config, store: Store) -> Mapping[str, Mapping[str, Any]]:
    """What each selector took: documents and tokens by domain."""
    found = {name: store.find(stage) for name, stage in select_stages(config).items()}
    return {name: taken_by_domain(folder) for name, folder in found.items() if folder is not None}
