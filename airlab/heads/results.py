"""What probes say about heads: shares of copied tokens, their means and errors, and what luck would give."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import t as student_t

from airlab.errors import UserError

ANSWERED = 0.5
"""Share of the answer's tokens a model must predict for a probe to count as answered."""

FALSE_ALARM = 0.01
"""Probability of calling a model without retrieval heads one that has some."""


@dataclass(frozen=True)
class ProbeResult:
    """What one probe says about every head.

    Attributes:
        recall: float64 [layers, heads], share of the answer's distinct tokens that were copied.
        chance: float64 [layers], the same share for a head that looks at a random visible position;
            what is visible differs between layers where some have a sliding window.
        accuracy: share of the answer's tokens that the model predicts.
    """

    recall: np.ndarray
    chance: np.ndarray
    accuracy: float

    @property
    def answered(self) -> bool:
        """Whether the model retrieved the value at all."""
        return self.accuracy >= ANSWERED


@dataclass(frozen=True)
class HeadScores:
    """Means over probes.

    Attributes:
        mean: float64 [layers, heads], retrieval scores.
        stderr: float64 [layers, heads], standard errors of the means.
        chance: float64 [layers], score of a head that looks at random visible positions.
        probes: how many.
    """

    mean: np.ndarray
    stderr: np.ndarray
    chance: np.ndarray
    probes: int

    @property
    def above_chance(self) -> np.ndarray:
        """Heads that copy, bool [layers, heads].

        One-sided, and Bonferroni-corrected: among many heads some look good by luck.
        """
        above: np.ndarray = self.mean - self._needed * self.stderr > self.chance[:, None]
        return above

    def detectable(self, power: float) -> float | None:
        """The score from which a head would be found above chance with this probability.

        For a head of the largest standard error found; None where that is 0, and so not known.
        """
        error = float(self.stderr.max())
        enough = self._needed + student_t.ppf(power, self.probes - 1)
        return float(self.chance.max() + enough * error) if error > 0 else None

    @property
    def _needed(self) -> float:
        return float(student_t.isf(FALSE_ALARM / self.mean.size, self.probes - 1))


def counted_results(results: Sequence[ProbeResult], failed_retrievals: str) -> list[ProbeResult]:
    """The probes that count: all of them, or with `failed_retrievals="skip"` those that were answered.

    Raises:
        UserError: fewer than two.
    """
    counted = [r for r in results if r.answered or failed_retrievals == "count"]
    if len(counted) < 2:
        raise UserError(
            f"the model answers {len(counted)} of {len(results)} probes, too few to rank heads; "
            "use a stronger model, shorter probes or more of them."
        )
    return counted


def head_scores(counted: Sequence[ProbeResult]) -> HeadScores:
    """Average at least two probes."""
    recall = np.stack([r.recall for r in counted])
    mean = recall.mean(axis=0)
    stderr = recall.std(axis=0, ddof=1) / math.sqrt(len(counted))
    chance = np.mean([r.chance for r in counted], axis=0)
    return HeadScores(mean, stderr, chance, len(counted))


def write_results(path: Path, results: Sequence[ProbeResult], tokens: Sequence[int]) -> None:
    """Write some probes' results, with the number of tokens of each."""
    with path.open("wb") as out:
        np.savez(
            out,
            recall=np.stack([r.recall for r in results]),
            chance=np.stack([r.chance for r in results]),
            accuracy=[r.accuracy for r in results],
            tokens=list(tokens),
        )


def read_results(paths: Sequence[Path]) -> tuple[list[ProbeResult], int]:
    """All results of several such files, in order, and the number of tokens of all probes."""
    results: list[ProbeResult] = []
    tokens = 0
    for path in paths:
        with np.load(path) as saved:
            tokens += int(saved["tokens"].sum())
            results += [
                ProbeResult(r, c, float(a))
                for r, c, a in zip(saved["recall"], saved["chance"], saved["accuracy"], strict=True)
            ]
    return results, tokens
