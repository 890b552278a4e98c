"""What a score goes along with besides what it is meant to measure: the confound audit.

Everything works on ranks, as selection does. Numbers that the data do not determine (a constant column,
too few units) are None and never zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np
from scipy.stats import rankdata

from airlab.progress import track
from airlab.randomness import generator
from airlab.schema.selection import Selecting
from airlab.selection.ranks import groups_of, ranks_within
from airlab.selection.regression import residual
from airlab.selection.select import select

Statistic = Literal["spearman", "within_domain", "partial"]

_FEWEST = 3
"""Units from which a correlation is told: two always correlate perfectly."""


@dataclass(frozen=True)
class Association:
    """How a score goes along with a confound.

    Attributes:
        spearman: over all units.
        within_domain: of the ranks within each domain, over all units: differences between domains,
            which selection within domains cannot act on, are out.
    """

    selector: str
    confound: str
    spearman: float | None
    within_domain: float | None


@dataclass(frozen=True)
class Remainder:
    """What is left of a score when confounds are regressed out of it, on ranks within domains.

    Attributes:
        eta_squared_domain: share of the variance of the score's ranks over all units that lies between
            domains.
        r_squared: share of the variance within domains that a linear fit on all confounds explains.
        partial: by confound, the correlation that is left between it and the score when all other
            confounds are regressed out of both.
        spearman_left: between the residuals and the score itself: 1 where confounds explain nothing.
    """

    selector: str
    eta_squared_domain: float | None
    r_squared: float | None
    partial: dict[str, float | None]
    spearman_left: float | None


@dataclass(frozen=True)
class Interval:
    """How far a correlation may be off because the corpus holds these units and not others like them.

    Percentile bootstrap of 95 % over units, drawn anew within each domain. Other probes, heads or models
    would move scores in ways that it does not cover.

    Attributes:
        statistic: the field of `Association`, or of `Remainder`, that it belongs to.
        low, high: None where a resample does not determine the statistic.
    """

    selector: str
    confound: str
    statistic: Statistic
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Overlap:
    """How much of what one selector takes another takes too.

    Attributes:
        jaccard: units that both take over units that either takes.
        shared_tokens: share of the first one's tokens that the second takes too.
    """

    first: str
    second: str
    jaccard: float
    shared_tokens: float


@dataclass(frozen=True)
class Composition:
    """What a selector takes of a domain.

    Attributes:
        units, tokens: how many.
        share_of_tokens: of the domain's tokens.
        mean_tokens: of the units taken; None where there are none.
        mean_tokens_all: of all units of the domain.
    """

    selector: str
    domain: str
    units: int
    tokens: int
    share_of_tokens: float
    mean_tokens: float | None
    mean_tokens_all: float


@dataclass(frozen=True)
class Audit:
    """The whole audit of one corpus; pairs of selectors in both directions."""

    n_units: int
    associations: tuple[Association, ...]
    remainders: tuple[Remainder, ...]
    intervals: tuple[Interval, ...]
    overlaps: tuple[Overlap, ...]
    compositions: tuple[Composition, ...]


def audit(
    unit_id: np.ndarray,
    domain: np.ndarray,
    n_tokens: np.ndarray,
    scores: Mapping[str, np.ndarray],
    confounds: Mapping[str, np.ndarray],
    selecting: Selecting,
    resamples: int,
) -> Audit:
    """Audit several selectors on the same units.

    Args:
        unit_id, domain: string arrays [units].
        n_tokens: int64 [units].
        scores, confounds: float64 [units] by name.
        selecting: the rule by which overlaps and compositions are selected.
        resamples: of the bootstrap behind the intervals.
    """
    chosen = {name: select(unit_id, domain, n_tokens, s, selecting) for name, s in scores.items()}
    ranked = _ranked(domain, confounds)
    explaining = _Explaining(ranked)
    return Audit(
        n_units=len(unit_id),
        associations=_associations(_ranked(domain, scores), ranked),
        remainders=tuple(_remainder(name, domain, s, explaining) for name, s in scores.items()),
        intervals=intervals(unit_id, domain, scores, confounds, resamples),
        overlaps=overlaps(chosen, n_tokens),
        compositions=compositions(chosen, domain, n_tokens),
    )


def associations(
    domain: np.ndarray, scores: Mapping[str, np.ndarray], confounds: Mapping[str, np.ndarray]
) -> tuple[Association, ...]:
    """Every selector with every confound."""
    return _associations(_ranked(domain, scores), _ranked(domain, confounds))


def remainder(
    selector: str, domain: np.ndarray, score: np.ndarray, confounds: Mapping[str, np.ndarray]
) -> Remainder:
    """What of a score its confounds do not explain."""
    return _remainder(selector, domain, score, _Explaining(_ranked(domain, confounds)))


def _remainder(selector: str, domain: np.ndarray, score: np.ndarray, explaining: "_Explaining") -> Remainder:
    ranks = ranks_within(domain, score)
    fitted = explaining.fits(ranks)
    left = residual(ranks, explaining.within)
    spread = float(np.square(ranks - ranks.mean()).sum())
    return Remainder(
        selector,
        eta_squared(domain, score),
        1 - float(np.square(left).sum()) / spread if fitted else None,
        explaining.partial(ranks),
        correlation(rankdata(left), rankdata(ranks)) if fitted else None,
    )


@dataclass(frozen=True)
class _Ranks:
    """Of one score, over all units and within domains."""

    overall: np.ndarray
    within: np.ndarray


def _ranked(domain: np.ndarray, scores: Mapping[str, np.ndarray]) -> dict[str, _Ranks]:
    return {name: _Ranks(rankdata(values), ranks_within(domain, values)) for name, values in scores.items()}


def _associations(scores: Mapping[str, _Ranks], confounds: Mapping[str, _Ranks]) -> tuple[Association, ...]:
    return tuple(
        Association(
            selector,
            confound,
            correlation(ranks.overall, other.overall),
            correlation(ranks.within, other.within),
        )
        for selector, ranks in scores.items()
        for confound, other in confounds.items()
    )


class _Explaining:
    """Confounds' ranks within domains as columns, and of each what the others do not explain."""

    def __init__(self, confounds: Mapping[str, _Ranks]) -> None:
        self._names = tuple(confounds)
        self.within = np.column_stack([ranks.within for ranks in confounds.values()])
        self._others = [np.delete(self.within, i, axis=1) for i in range(len(self._names))]
        self._left = [residual(self.within[:, i], others) for i, others in enumerate(self._others)]

    def fits(self, ranks: np.ndarray) -> bool:
        """Whether there is anything to explain, and enough units for a fit that could be wrong."""
        return len(ranks) >= self.within.shape[1] + 2 and bool((ranks != ranks[0]).any())

    def partial(self, ranks: np.ndarray) -> dict[str, float | None]:
        """Correlation with each confound when the others are taken out of both."""
        if not self.fits(ranks):
            return dict.fromkeys(self._names)
        return {
            name: correlation(residual(ranks, others), left)
            for name, others, left in zip(self._names, self._others, self._left, strict=True)
        }


def intervals(
    unit_id: np.ndarray,
    domain: np.ndarray,
    scores: Mapping[str, np.ndarray],
    confounds: Mapping[str, np.ndarray],
    resamples: int,
) -> tuple[Interval, ...]:
    """Intervals for every correlation of every selector with every confound."""
    by_id = np.argsort(unit_id, kind="stable")  # the draw must not depend on the order of the rows
    domain = np.unique(domain, return_inverse=True)[1][by_id]  # numbers in the names' order are faster
    scores = {name: values[by_id] for name, values in scores.items()}
    confounds = {name: values[by_id] for name, values in confounds.items()}
    random = generator(0, "confound audit")
    drawn: dict[tuple[str, str, Statistic], list[float | None]] = {}
    for _ in track(range(resamples), label="resampling documents", unit="resamples"):
        rows = np.concatenate([random.choice(members, len(members)) for members in groups_of(domain)])
        taken = _ranked(domain[rows], {name: values[rows] for name, values in scores.items()})
        against = _ranked(domain[rows], {name: values[rows] for name, values in confounds.items()})
        for found in _associations(taken, against):
            drawn.setdefault((found.selector, found.confound, "spearman"), []).append(found.spearman)
            drawn.setdefault((found.selector, found.confound, "within_domain"), []).append(
                found.within_domain
            )
        explaining = _Explaining(against)
        for name, ranks in taken.items():
            for confound, partial in explaining.partial(ranks.within).items():
                drawn.setdefault((name, confound, "partial"), []).append(partial)
    return tuple(Interval(*key, *_percentiles(values)) for key, values in drawn.items())


def _percentiles(values: list[float | None]) -> tuple[float | None, float | None]:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None, None
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def overlaps(chosen: Mapping[str, np.ndarray], n_tokens: np.ndarray) -> tuple[Overlap, ...]:
    """Every ordered pair of selections, bool [units] by name; each takes at least one unit."""
    found = []
    for first, second in permutations(chosen, 2):
        both = chosen[first] & chosen[second]
        found.append(
            Overlap(
                first,
                second,
                float(both.sum() / (chosen[first] | chosen[second]).sum()),
                float(n_tokens[both].sum() / n_tokens[chosen[first]].sum()),
            )
        )
    return tuple(found)


def compositions(
    chosen: Mapping[str, np.ndarray], domain: np.ndarray, n_tokens: np.ndarray
) -> tuple[Composition, ...]:
    """Every selection, bool [units] by name, in every domain."""
    found = []
    for selector, taken in chosen.items():
        for members in groups_of(domain):
            tokens, own = n_tokens[members], n_tokens[members[taken[members]]]
            found.append(
                Composition(
                    selector,
                    str(domain[members[0]]),
                    len(own),
                    int(own.sum()),
                    float(own.sum() / tokens.sum()),
                    float(own.mean()) if len(own) else None,
                    float(tokens.mean()),
                )
            )
    return tuple(found)


def eta_squared(domain: np.ndarray, score: np.ndarray) -> float | None:
    """Share of the variance of the score's ranks that lies between domains; None for equal scores."""
    ranks = rankdata(score)
    total = float(np.square(ranks - ranks.mean()).sum())
    if len(ranks) < _FEWEST or total == 0:
        return None
    between = sum(len(m) * (ranks[m].mean() - ranks.mean()) ** 2 for m in groups_of(domain))
    return float(between / total)


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Pearson's correlation; None for fewer than three units or a constant column."""
    if len(a) < _FEWEST:
        return None
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return float(np.clip((a * b).sum() / scale, -1, 1)) if scale > 1e-12 else None
