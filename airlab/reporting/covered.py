"""What arms' training text holds of held-out text, next to what they lose on it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import pearsonr

from airlab.reporting.formats import number
from airlab.reporting.pages import Page, Section, numbers

NAME = "coverage"
"""Of the page and its long form."""

_LEVEL = 0.95
_FEWEST = 4
"""Arms; an interval for a correlation of fewer is not defined."""


@dataclass(frozen=True)
class ArmInDomain:
    """An arm in one domain, means over seeds.

    Attributes:
        covered: share of held-out n-grams that its training text holds, 0 to 1.
        loss: bits per byte of held-out text.
    """

    covered: float
    loss: float


def covered_page(
    title: str,
    arms: Mapping[str, Mapping[str, ArmInDomain]],
    labels: Mapping[str, str],
    reference: str,
    notes: tuple[str, ...],
) -> Page:
    """Both quantities of every arm in every domain as differences to the reference, and how they go together.

    Args:
        arms: of each domain, every arm, the reference among them.
        labels: of each arm.
        reference: the arm that others are compared with.
        notes: sentences below the page.
    """
    headers = ("arm", "n-grams held", f"against {labels[reference]}", "bits per byte against it")
    csv_rows: list[tuple[str, ...]] = []
    sections = []
    together = []
    for domain, found in arms.items():
        of = found[reference]
        for arm, one in found.items():
            csv_rows.append((domain, arm, *numbers(one.covered, one.loss)))
        rows = tuple(
            (
                labels[arm],
                number(one.covered, 3),
                f"{one.covered - of.covered:+.3f}",
                f"{one.loss - of.loss:+.3f}",
            )
            for arm, one in sorted(found.items(), key=lambda item: -item[1].covered)
        )
        sections.append(Section(domain, headers, rows))
        together.append((domain, correlation_text(list(found.values())), str(len(found))))
    first = Section("over arms", ("domain", "Pearson correlation of the two", "arms"), tuple(together))
    return Page(
        name=NAME,
        title=title,
        sections=(first, *sections),
        foot=(
            "Looked at after the losses were known: a description, and no test. Arms are no sample of "
            f"anything; {_LEVEL:.0%} intervals are Fisher's, as if they were.",
            *notes,
        ),
        csv_header=("domain", "arm", "covered", "bits_per_byte"),
        csv_rows=tuple(csv_rows),
    )


def correlation_text(arms: list[ArmInDomain]) -> str:
    """Pearson's correlation with its interval; a dash where it is not defined."""
    covered, loss = np.array([one.covered for one in arms]), np.array([one.loss for one in arms])
    if len(arms) < _FEWEST or not np.ptp(covered) or not np.ptp(loss):
        return "–"
    found = pearsonr(covered, loss)
    low, high = found.confidence_interval(_LEVEL)
    return f"{found.statistic:+.2f} [{low:+.2f}, {high:+.2f}]"
