"""The ablations' page: how each variant ranks and selects, and what its selection is worth."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from airlab.reporting.audit import LEVEL
from airlab.reporting.formats import MISSING, UNKNOWN
from airlab.reporting.pages import Page, Section, numbers
from airlab.reporting.render import DIGITS, verdict_texts
from airlab.reporting.tables import SEEDS_TO_CLAIM, Contrast, Verdict, judge
from airlab.selection.audit import Statistic, associations, intervals
from airlab.stats.estimate import Estimate
from airlab.stats.intervals import Comparison

SAME = "the same"

_STATISTICS: tuple[Statistic, ...] = ("spearman", "within_domain")


@dataclass(frozen=True)
class Ranking:
    """How a variant ranks documents, and what it selects.

    Attributes:
        identity: of the scores; equal for variants that differ only in what is selected by them.
        unit_id, domain: string arrays [units], sorted by unit.
        score: float64 [units].
        taken: the units selected.
        tokens: of these units.
    """

    identity: str
    unit_id: np.ndarray
    domain: np.ndarray
    score: np.ndarray
    taken: frozenset[str]
    tokens: int


@dataclass(frozen=True)
class Ablation:
    """One variant; what is None is not there yet.

    Attributes:
        change: what it changes, in words; empty for the default.
        comparison: attention influence against random under the variant's setting, uncorrected.
        to_baseline: against the full pool.
    """

    name: str
    change: str
    ranking: Ranking | None
    comparison: Comparison | None
    to_baseline: Contrast | None


@dataclass(frozen=True)
class Agreement:
    """A variant's ranking and selection beside the default's; `spearman` is None for the same scores."""

    spearman: dict[Statistic, Estimate | None] | None
    jaccard: float


def ablations_page(name: str, title: str, ablations: Sequence[Ablation], resamples: int) -> Page:
    """Both sections; the first ablation is the default.

    Args:
        resamples: of the bootstrap behind the correlations' intervals.
    """
    agreements = _agreements(ablations, resamples)
    verdicts = judge({ablation.name: ablation.comparison for ablation in ablations}, level=LEVEL)
    return Page(
        name=name,
        title=title,
        sections=(_ranked(ablations, agreements), _trained(ablations, verdicts)),
        foot=_foot(ablations, verdicts, resamples),
        csv_header=(
            "variant",
            "change",
            "quantity",
            "value",
            "low",
            "high",
            "p_holm",
            "detectable",
            "outcome",
        ),
        csv_rows=tuple(_long(ablations, agreements, verdicts)),
    )


def _agreements(ablations: Sequence[Ablation], resamples: int) -> dict[str, Agreement]:
    """Of every variant whose ranking is there, if the default's is."""
    default = ablations[0].ranking
    if default is None:
        return {}
    found = {}
    for ablation in ablations[1:]:
        ranking = ablation.ranking
        if ranking is None:
            continue
        both = ranking.taken | default.taken
        spearman = None if ranking.identity == default.identity else _spearman(ranking, default, resamples)
        found[ablation.name] = Agreement(spearman, len(ranking.taken & default.taken) / len(both))
    return found


def _spearman(ranking: Ranking, default: Ranking, resamples: int) -> dict[Statistic, Estimate | None]:
    """Over the units that both scored: another tokenizer may leave one too short to score."""
    _, rows, others = np.intersect1d(ranking.unit_id, default.unit_id, return_indices=True)
    unit_id, domain = ranking.unit_id[rows], ranking.domain[rows]
    scores, against = {"variant": ranking.score[rows]}, {"default": default.score[others]}
    (found,) = associations(domain, scores, against)
    ends = {i.statistic: i for i in intervals(unit_id, domain, scores, against, resamples)}
    estimates: dict[Statistic, Estimate | None] = {}
    for statistic in _STATISTICS:
        value, end = getattr(found, statistic), ends[statistic]
        estimates[statistic] = (
            None
            if value is None
            else Estimate(value, end.low, end.high, LEVEL, "percentile bootstrap", len(unit_id), 1)
        )
    return estimates


def _ranked(ablations: Sequence[Ablation], agreements: Mapping[str, Agreement]) -> Section:
    rows = []
    for ablation in ablations:
        ranking, agreement = ablation.ranking, agreements.get(ablation.name)
        texts = ["–"] * 3 if ablation is ablations[0] else [MISSING] * 3
        if agreement is not None:
            texts = [*_correlations(agreement), f"{agreement.jaccard:.2f}"]
        counts = [MISSING] * 2 if ranking is None else [str(len(ranking.taken)), f"{ranking.tokens:,}"]
        rows.append((ablation.name, ablation.change or "–", *texts, *counts))
    headers = (
        "variant",
        "change",
        "Spearman with the default, all documents",
        "of ranks within domains",
        "Jaccard of the selections",
        "documents",
        "tokens",
    )
    return Section("Influence and selection of each variant beside the default's", headers, tuple(rows))


def _correlations(agreement: Agreement) -> list[str]:
    if agreement.spearman is None:
        return [SAME] * len(_STATISTICS)
    estimates = (agreement.spearman[statistic] for statistic in _STATISTICS)
    return [UNKNOWN if estimate is None else estimate.text(2, sign=True) for estimate in estimates]


def _trained(ablations: Sequence[Ablation], verdicts: Mapping[str, Verdict | None]) -> Section:
    rows = []
    for ablation in ablations:
        verdict, to_baseline = verdicts[ablation.name], ablation.to_baseline
        full = MISSING if to_baseline is None else to_baseline.composite.text(DIGITS, sign=True)
        rows.append((ablation.name, *verdict_texts(verdict, "random"), full))
    headers = (
        "variant",
        "composite against random",
        "Holm-adjusted p",
        "detectable",
        "verdict",
        "composite against the full pool",
    )
    title = "Attention influence against random under the same setting, at equal tokens"
    return Section(title, headers, tuple(rows))


def _foot(
    ablations: Sequence[Ablation], verdicts: Mapping[str, Verdict | None], resamples: int
) -> tuple[str, ...]:
    tested = sum(verdict is not None and verdict.p_holm is not None for verdict in verdicts.values())
    level = f"{100 * LEVEL:g} %"
    lines = [
        f"Value [interval]. Spearman: {level} percentile bootstrap over documents, drawn anew within each "
        f'domain ({resamples} resamples), not corrected for their number; "{SAME}": nothing about scores is '
        "changed. Jaccard: documents that both select over those that either selects.",
        "Composite: as in the table of the default setting, a difference paired over seeds and items; "
        "positive is better, in units of the between-item standard deviation of the full pool.",
        f"P-values are Holm-adjusted over the {tested} variants that could be tested. Detectable: the "
        "difference that would have been found with 80 % probability, so corrected. The difference to the "
        "full pool has its own interval and is no test. No two variants are compared.",
    ]
    runs = {verdict.composite.n_runs for verdict in verdicts.values() if verdict is not None}
    if 1 in runs:
        lines.append("With one seed, composites' intervals are over items only.")
    if any(n < SEEDS_TO_CLAIM for n in runs):
        lines.append(f"Nothing is claimed from fewer than {SEEDS_TO_CLAIM} seeds.")
    missing = [a.name for a in ablations if verdicts[a.name] is None]
    if missing:
        lines.append(f"Partial: {', '.join(missing)} not finished; adjusted p-values will grow with them.")
    return tuple(lines)


def _long(
    ablations: Sequence[Ablation], agreements: Mapping[str, Agreement], verdicts: Mapping[str, Verdict | None]
) -> Iterator[tuple[str, ...]]:
    for ablation in ablations:
        head = (ablation.name, ablation.change)
        agreement, ranking = agreements.get(ablation.name), ablation.ranking
        if agreement is not None:
            for statistic, estimate in (agreement.spearman or {}).items():
                yield (*head, statistic, *_ends(estimate), "", "", "")
            yield (*head, "jaccard", *numbers(agreement.jaccard), *[""] * 5)
        if ranking is not None:
            yield (*head, "documents", *numbers(len(ranking.taken)), *[""] * 5)
            yield (*head, "tokens", *numbers(ranking.tokens), *[""] * 5)
        verdict = verdicts[ablation.name]
        if verdict is None:
            yield (*head, "composite", *[""] * 5, MISSING)
        else:
            yield (
                *head,
                "composite",
                *_ends(verdict.composite),
                *numbers(verdict.p_holm, verdict.detectable),
                verdict.outcome,
            )
        if ablation.to_baseline is not None:
            yield (*head, "composite_to_full_pool", *_ends(ablation.to_baseline.composite), "", "", "")


def _ends(estimate: Estimate | None) -> tuple[str, ...]:
    if estimate is None:
        return "", "", ""
    return tuple(numbers(estimate.value, estimate.low, estimate.high))
