"""The confound audit as a page."""

from collections.abc import Iterator
from dataclasses import dataclass

from airlab.reporting.formats import UNKNOWN, number
from airlab.reporting.pages import Page, Section, numbers
from airlab.selection.audit import Audit, Statistic
from airlab.stats.estimate import Estimate

AUDIT = "audit"
"""The page's name, and that of its artifact in a lock, beside the cells'."""

LEVEL = 0.95
"""Of the audit's intervals."""

_DIGITS = 2
_CORRELATIONS: tuple[tuple[Statistic, str], ...] = (
    ("spearman", "Spearman correlation with confounds, over all documents"),
    ("within_domain", "Spearman correlation with confounds, of ranks within domains"),
    ("partial", "What each confound has alone: within domains, the other confounds regressed out of both"),
)


@dataclass(frozen=True)
class AuditTable:
    """An audit with what a reader has to know about it.

    Attributes:
        compared: the selector that all selections are compared with.
        resamples: of the bootstrap behind the intervals.
    """

    title: str
    audit: Audit
    compared: str
    resamples: int
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.compared not in self.selectors:
            raise ValueError(f"the audit has no selector {self.compared}")

    @property
    def selectors(self) -> tuple[str, ...]:
        """In the order of the audit."""
        return tuple(remainder.selector for remainder in self.audit.remainders)


def audit_page(table: AuditTable) -> Page:
    """The audit as a page: correlations, what remains, and what is selected."""
    return Page(
        name=AUDIT,
        title=table.title,
        sections=(*_correlations(table), _remainders(table), _selections(table)),
        foot=tuple(_foot(table)),
        csv_header=("selector", "quantity", "against", "value", "low", "high"),
        csv_rows=tuple(
            (selector, quantity, against, *numbers(*values))
            for selector, quantity, against, *values in _quantities(table)
        ),
    )


def _foot(table: AuditTable) -> list[str]:
    """What the numbers are."""
    return [
        f"{table.audit.n_units} documents. Value [interval]; {100 * LEVEL:g} % intervals: percentile "
        f"bootstrap over documents, drawn anew within each domain ({table.resamples} resamples), not "
        "corrected for their number. They do not cover how other heads, probes or models would move scores.",
        "Ranks within domains leave out differences between domains, which a selection within domains cannot "
        "act on.",
        f"Jaccard: documents that a selector and {_label(table.compared)} both take over those that either "
        "takes.",
        *table.notes,
    ]


_Number = float | int | None


def _quantities(table: AuditTable) -> Iterator[tuple[str, str, str, _Number, _Number, _Number]]:
    audit = table.audit
    ends = _ends(audit)
    values = _values(audit)
    for statistic, _ in _CORRELATIONS:
        for selector in table.selectors:
            for confound in _confounds(audit):
                low, high = ends[selector, confound, statistic]
                yield selector, statistic, confound, values[selector, confound, statistic], low, high
    for left in audit.remainders:
        yield left.selector, "eta_squared", "domain", left.eta_squared_domain, None, None
        yield left.selector, "r_squared", "all confounds within domains", left.r_squared, None, None
        yield left.selector, "spearman_left", "", left.spearman_left, None, None
    for overlap in audit.overlaps:
        yield overlap.first, "jaccard", overlap.second, overlap.jaccard, None, None
        yield overlap.first, "shared_tokens", overlap.second, overlap.shared_tokens, None, None
    for part in audit.compositions:
        yield part.selector, "units", part.domain, part.units, None, None
        yield part.selector, "tokens", part.domain, part.tokens, None, None
        yield part.selector, "share_of_tokens", part.domain, part.share_of_tokens, None, None
        yield part.selector, "mean_tokens", part.domain, part.mean_tokens, None, None


def _ends(audit: Audit) -> dict[tuple[str, str, Statistic], tuple[float | None, float | None]]:
    return {(i.selector, i.confound, i.statistic): (i.low, i.high) for i in audit.intervals}


def _values(audit: Audit) -> dict[tuple[str, str, Statistic], float | None]:
    values: dict[tuple[str, str, Statistic], float | None] = {}
    for found in audit.associations:
        values[found.selector, found.confound, "spearman"] = found.spearman
        values[found.selector, found.confound, "within_domain"] = found.within_domain
    for left in audit.remainders:
        for confound, partial in left.partial.items():
            values[left.selector, confound, "partial"] = partial
    return values


def _confounds(audit: Audit) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found.confound for found in audit.associations))


def _correlations(table: AuditTable) -> Iterator[Section]:
    audit = table.audit
    ends = _ends(audit)
    values = _values(audit)
    confounds = _confounds(audit)
    for statistic, title in _CORRELATIONS:
        rows = []
        for selector in table.selectors:
            texts = [_label(selector)]
            for confound in confounds:
                value = values[selector, confound, statistic]
                low, high = ends[selector, confound, statistic]
                texts.append(_with_interval(value, low, high, audit.n_units))
            rows.append(tuple(texts))
        yield Section(title, ("selector", *map(_label, confounds)), tuple(rows))


def _remainders(table: AuditTable) -> Section:
    rows = tuple(
        (
            _label(left.selector),
            number(left.eta_squared_domain, _DIGITS),
            number(left.r_squared, _DIGITS),
            number(left.spearman_left, _DIGITS),
        )
        for left in table.audit.remainders
    )
    headers = (
        "selector",
        "share of variance between domains",
        "share within domains that the confounds explain",
        "Spearman of what remains with the score",
    )
    return Section("What remains when domains and confounds are taken out", headers, rows)


def _selections(table: AuditTable) -> Section:
    audit = table.audit
    overlaps = {(o.first, o.second): o for o in audit.overlaps}
    taken = {
        selector: [part for part in audit.compositions if part.selector == selector]
        for selector in table.selectors
    }
    rows = []
    for selector, parts in taken.items():
        units, tokens = sum(part.units for part in parts), sum(part.tokens for part in parts)
        shared = ["–"] * 3
        if selector != table.compared:
            there, back = overlaps[selector, table.compared], overlaps[table.compared, selector]
            shared = [
                number(there.jaccard, _DIGITS),
                f"{there.shared_tokens:.0%}",
                f"{back.shared_tokens:.0%}",
            ]
        rows.append((_label(selector), str(units), f"{tokens:,}", f"{tokens / units:.0f}", *shared))
    compared = _label(table.compared)
    headers = (
        "selector",
        "documents",
        "tokens",
        "tokens a document",
        f"Jaccard with {compared}",
        f"of its tokens, also in {compared}",
        f"of the tokens of {compared}, also in it",
    )
    return Section(f"What is selected, and its overlap with {compared}", headers, tuple(rows))


def _with_interval(value: float | None, low: float | None, high: float | None, units: int) -> str:
    if value is None:
        return UNKNOWN
    estimate = Estimate(value, low, high, LEVEL, "percentile bootstrap", units, 1)
    return estimate.text(_DIGITS, sign=True)


def _label(name: str) -> str:
    return name.replace("_", " ")
