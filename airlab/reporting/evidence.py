"""Step influence against known kinds of steps, as a page of areas under ROC curves (AUC)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from airlab.randomness import generator
from airlab.reporting.formats import UNKNOWN, number, p_text
from airlab.reporting.pages import Page, Section, numbers
from airlab.schema.worked_problems import STEP_KINDS, Variant
from airlab.selection.known_steps import INFLUENCE, KnownSteps, KnownTraces
from airlab.stats.auc import auc_pooled, auc_within
from airlab.stats.estimate import Estimate
from airlab.stats.grid import Grid, paired_difference
from airlab.stats.intervals import Comparison, compare
from airlab.stats.multiplicity import tested_together

NAME = "evidence"
LEVEL = 0.95
_RESAMPLES = 2000
_CHANCE = 0.5


@dataclass(frozen=True)
class Question:
    """Which steps are to score above which others.

    Attributes:
        variants: traces that are asked, all if empty.
        kinds: kinds of steps that are asked.
        other: the kind that is to score lower; None: whatever leads nowhere.
    """

    name: str
    title: str
    variants: tuple[Variant, ...]
    kinds: tuple[str, ...]
    other: str | None

    def asked(self, steps: KnownSteps) -> tuple[np.ndarray, np.ndarray]:
        """(int64 numbers of the steps that are asked, bool: which of them are to score higher)."""
        inside = np.isin(steps.kind, self.kinds)
        if self.variants:
            inside &= np.isin(steps.variant, self.variants)
        at = np.flatnonzero(inside)
        return at, steps.feeds[at] if self.other is None else steps.kind[at] != self.other


QUESTIONS: tuple[Question, ...] = (
    Question("padded", "clean above padded", ("padded",), ("clean", "padded"), "padded"),
    Question("redundant", "clean above redundant", ("redundant",), ("clean", "redundant"), "redundant"),
    Question("feeds", "what feeds the answer above what does not", (), ("clean",), None),
    Question("wrong", "clean above wrong", ("wrong_carried", "wrong_corrected"), ("clean", "wrong"), "wrong"),
)

SPOILT: tuple[Variant, ...] = ("padded", "redundant", "wrong_carried", "wrong_corrected", "shuffled")
"""Variants that whole clean traces are compared with."""

_LABELS = {
    INFLUENCE: "attention influence",
    "loss_gap": "loss gap, nats a token",
    "tokens": "length in tokens",
    "entropy": "entropy, nats a token",
    "base_loss": "base loss, nats a token",
    "digits": "share of digits",
    "equals": "has an equals sign",
    "position": "position in the trace",
    f"{INFLUENCE}_trace": "influence of the whole response",
    f"{INFLUENCE}_token_mean": "mean influence over tokens",
    f"{INFLUENCE}_step_mean": "mean influence over steps",
    f"{INFLUENCE}_maximum": "highest influence of a step",
    f"{INFLUENCE}_top_k_mean": "mean of the three highest",
}


@dataclass(frozen=True)
class Evidence:
    """What the page shows."""

    title: str
    steps: KnownSteps
    traces: KnownTraces
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Answer:
    """What one score says about one question; None where a kind is missing."""

    question: Question
    score: str
    within: Comparison | None
    """The area minus one half; `value` adds it again."""
    pooled: Comparison | None
    ahead: Comparison | None = None
    """Influence's area within traces minus the score's, turned around if below one half."""
    turned: bool = False
    p_holm: float | None = None
    """Of `ahead`; of influence itself, against one half."""
    detectable: float | None = None


@dataclass(frozen=True)
class _Counts:
    traces: int
    generators: int
    higher: int
    lower: int


def evidence_page(evidence: Evidence) -> Page:
    """The page; a question that nobody can answer says unknown."""
    answers = {question.name: _answers(question, evidence.steps) for question in QUESTIONS}
    answers = _adjusted(answers)
    by_level = _levels(evidence.steps)
    whole = _whole(evidence.traces)
    sections = (
        _verdicts(evidence.steps, answers),
        *(_question_section(question, answers[question.name]) for question in QUESTIONS),
        _level_section(by_level),
        _kind_section(evidence.steps),
        _whole_section(evidence.traces, whole),
    )
    return Page(
        name=NAME,
        title=evidence.title,
        sections=sections,
        foot=tuple(_foot(evidence)),
        csv_header=_CSV_HEADER,
        csv_rows=tuple(_csv_rows(evidence.steps, answers, by_level, whole)),
    )


def _answers(question: Question, steps: KnownSteps) -> dict[str, _Answer]:
    at, higher = question.asked(steps)
    grids = {
        name: (
            auc_within(score[at], higher, steps.trace[at], steps.task[at]),
            auc_pooled(score[at], higher, steps.trace[at], steps.task[at]),
        )
        for name, score in steps.scores.items()
    }
    own = grids[INFLUENCE][0]
    found = {}
    for name, (within, pooled) in grids.items():
        words = (question.name, name)
        ahead, turned = None, False
        if own is not None and within is not None and name != INFLUENCE:
            turned = bool(within.values.mean() < _CHANCE)
            rival = replace(within, values=1 - within.values) if turned else within
            ahead = _compare(paired_difference(own, rival), "ahead", *words)
        found[name] = _Answer(
            question,
            name,
            _above_chance(within, "within", *words),
            _above_chance(pooled, "pooled", *words),
            ahead,
            turned,
        )
    return found


def _above_chance(grid: Grid | None, *words: str) -> Comparison | None:
    return None if grid is None else _compare(replace(grid, values=grid.values - _CHANCE), *words)


def _compare(grid: Grid, *words: str) -> Comparison:
    return compare([grid], rng=generator(0, NAME, *words), level=LEVEL, resamples=_RESAMPLES)


def _adjusted(answers: Mapping[str, dict[str, _Answer]]) -> dict[str, dict[str, _Answer]]:
    """Holm-adjusted p-values: influence over the questions, other scores within a question."""
    adjusted = {name: dict(some) for name, some in answers.items()}
    verdicts = {name: some[INFLUENCE].within for name, some in answers.items()}
    for name, (p_value, detectable) in tested_together(verdicts, LEVEL).items():
        adjusted[name][INFLUENCE] = replace(adjusted[name][INFLUENCE], p_holm=p_value, detectable=detectable)
    for name, some in answers.items():
        for score, (p_value, detectable) in tested_together(
            {s: a.ahead for s, a in some.items()}, LEVEL
        ).items():
            adjusted[name][score] = replace(adjusted[name][score], p_holm=p_value, detectable=detectable)
    return adjusted


def _area(result: Comparison | None) -> Estimate | None:
    """An area again, from its distance to one half; the interval ends at 0 and 1."""
    if result is None:
        return None
    estimate = result.estimate
    shifted = replace(estimate, value=estimate.value + _CHANCE)
    if estimate.low is None or estimate.high is None:
        return shifted
    low, high = max(estimate.low + _CHANCE, 0.0), min(estimate.high + _CHANCE, 1.0)
    return replace(shifted, low=low, high=high)


def _levels(steps: KnownSteps) -> dict[tuple[str, str], Comparison | None]:
    """(Question, level) -> influence's area within traces, minus one half."""
    found = {}
    for question in QUESTIONS:
        at, higher = question.asked(steps)
        for level in np.unique(steps.level):
            here = steps.level[at] == level
            some = at[here]
            score = steps.scores[INFLUENCE][some]
            grid = auc_within(score, higher[here], steps.trace[some], steps.task[some])
            found[question.name, str(level)] = _above_chance(grid, "level", question.name, str(level))
    return found


def _whole(traces: KnownTraces) -> dict[tuple[str, str], Comparison | None]:
    """(Score, variant) -> the area of clean traces above those of the variant, minus one half."""
    found: dict[tuple[str, str], Comparison | None] = {}
    for name, score in traces.scores.items():
        for variant in SPOILT:
            at = np.flatnonzero(np.isin(traces.variant, ("clean", variant)))
            grid = auc_pooled(score[at], traces.variant[at] == "clean", traces.trace[at], traces.task[at])
            found[name, variant] = _above_chance(grid, "whole", name, variant)
    return found


def _counts(question: Question, steps: KnownSteps) -> _Counts:
    """Of the traces that have both kinds."""
    at, higher = question.asked(steps)
    both = np.intersect1d(steps.trace[at[higher]], steps.trace[at[~higher]])
    inside = np.isin(steps.trace[at], both)
    return _Counts(
        len(both),
        len(np.unique(steps.task[at[inside]])),
        int((higher & inside).sum()),
        int((~higher & inside).sum()),
    )


def _label(score: str) -> str:
    if score.startswith("random_heads_"):
        draw, _, whole = score.removeprefix("random_heads_").partition("_")
        return f"influence of random heads, draw {draw}" + (", whole response" if whole else "")
    return _LABELS.get(score, score)


def _text(estimate: Estimate | None, *, sign: bool = False) -> str:
    return UNKNOWN if estimate is None else estimate.text(2, sign=sign)


def _detectable_text(answer: _Answer) -> str:
    if answer.p_holm is not None and answer.p_holm <= 1 - LEVEL:
        return ""
    return number(answer.detectable, 2)


def _verdicts(steps: KnownSteps, answers: Mapping[str, Mapping[str, _Answer]]) -> Section:
    rows = []
    for question in QUESTIONS:
        answer, counts = answers[question.name][INFLUENCE], _counts(question, steps)
        rows.append(
            (
                question.title,
                _text(_area(answer.within)),
                p_text(answer.p_holm),
                _detectable_text(answer),
                *(f"{n:,}" for n in (counts.traces, counts.generators, counts.higher, counts.lower)),
            )
        )
    headers = (
        "question",
        "AUC within traces",
        "Holm-adjusted p against 0.5",
        "would have been found",
        "traces",
        "generators",
        "steps to score higher",
        "steps to score lower",
    )
    return Section("Attention influence of steps", headers, tuple(rows))


def _question_section(question: Question, answers: Mapping[str, _Answer]) -> Section:
    rows = []
    for score, answer in answers.items():
        shown = (_label(score), _text(_area(answer.within)), _text(_area(answer.pooled)))
        if score == INFLUENCE:
            rows.append((*shown, "", "", ""))
            continue
        ahead = None if answer.ahead is None else answer.ahead.estimate
        turned = " (turned)" if answer.turned else ""
        rows.append(
            (*shown, _text(ahead, sign=True) + turned, p_text(answer.p_holm), _detectable_text(answer))
        )
    headers = (
        "score",
        "AUC within traces",
        "AUC pooled",
        "influence minus this",
        "Holm-adjusted p",
        "would have been found",
    )
    return Section(f"By score: {question.title}", headers, tuple(rows))


def _level_section(by_level: Mapping[tuple[str, str], Comparison | None]) -> Section:
    levels = list(dict.fromkeys(level for _, level in by_level))
    rows = tuple(
        (question.title, *(_text(_area(by_level[question.name, level])) for level in levels))
        for question in QUESTIONS
    )
    return Section("Attention influence within traces, by level", ("question", *levels), rows)


def _kind_section(steps: KnownSteps) -> Section:
    shown = (INFLUENCE, *(name for name in steps.scores if name.startswith("random_heads_")))
    told = (*shown, "loss_gap", "base_loss", "tokens")
    rows = []
    for kind in STEP_KINDS:
        here = steps.kind == kind
        if not here.any():
            rows.append((kind, "0", *[UNKNOWN] * len(told)))
            continue
        medians = (_quartiles(steps.scores[name][here]) for name in told)
        rows.append((kind, f"{int(here.sum()):,}", *medians))
    headers = ("kind", "steps", *map(_label, told))
    return Section("Median and quartiles by kind of step", headers, tuple(rows))


def _quartiles(values: np.ndarray) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


def _whole_section(traces: KnownTraces, whole: Mapping[tuple[str, str], Comparison | None]) -> Section:
    rows = tuple(
        (_label(score), *(_text(_area(whole[score, variant])) for variant in SPOILT))
        for score in traces.scores
    )
    counts = {variant: int((traces.variant == variant).sum()) for variant in ("clean", *SPOILT)}
    headers = ("score", *(f"{variant.replace('_', ' ')} ({counts[variant]})" for variant in SPOILT))
    title = f"Whole traces: AUC of clean ones ({counts['clean']}) above spoilt ones"
    return Section(title, headers, rows)


def _foot(evidence: Evidence) -> Iterator[str]:
    steps = evidence.steps
    yield (
        f"{len(steps.trace):,} steps of {len(evidence.traces.trace):,} traces of "
        f"{len(np.unique(evidence.traces.task))} generators. AUC: probability that a step that is to score "
        "higher does, ties counting half; 0.5 is chance. Within traces: among a trace's own steps, the mean "
        "over traces. Pooled: over all pairs of the same steps."
    )
    yield (
        f"Value [interval]; {100 * LEVEL:g} % intervals, clustered by generator. They do not cover how other "
        "models or other probes' heads would do."
    )
    yield (
        "Influence minus this: within traces, paired; a score below one half is turned around first, by the "
        "same data, which favours it a little. P-values are Holm-adjusted: influence against 0.5 over the "
        "questions, differences over the other scores within a question. Where they are above "
        f"{1 - LEVEL:.2g}, the last column is the true difference that would have been found with 80 % "
        "probability. Levels, kinds and whole traces are described, not tested."
    )
    yield (
        "Influence: relative increase of a step's loss when the heads' attention is uniform. Feeding: the "
        "step finds a number that a feeding step or the answer shows later. Whole traces of a variant are of "
        "other problems than the clean ones."
    )
    if steps.joined:
        yield f"{steps.joined} steps share a token with another and are left out."
    yield from evidence.notes


_CSV_HEADER = (
    "quantity",
    "question",
    "level",
    "score",
    "value",
    "low",
    "high",
    "turned",
    "p_holm",
    "detectable",
    "clusters",
)


def _csv_rows(
    steps: KnownSteps,
    answers: Mapping[str, Mapping[str, _Answer]],
    by_level: Mapping[tuple[str, str], Comparison | None],
    whole: Mapping[tuple[str, str], Comparison | None],
) -> Iterator[tuple[str, ...]]:
    for question, some in answers.items():
        for score, answer in some.items():
            own = (answer.p_holm, answer.detectable) if score == INFLUENCE else ()
            yield _csv_row("auc within traces", question, "", score, _area(answer.within), "", *own)
            yield _csv_row("auc pooled", question, "", score, _area(answer.pooled))
            if score != INFLUENCE:
                ahead = None if answer.ahead is None else answer.ahead.estimate
                more = (str(answer.turned), answer.p_holm, answer.detectable)
                yield _csv_row("influence minus this", question, "", score, ahead, *more)
    for (question, level), result in by_level.items():
        yield _csv_row("auc within traces", question, level, INFLUENCE, _area(result))
    for (score, variant), result in whole.items():
        yield _csv_row("auc of clean traces", variant, "", score, _area(result))
    for kind in STEP_KINDS:
        here = steps.kind == kind
        yield ("steps", kind, "", "", str(int(here.sum())), *[""] * 6)
        for score, values in steps.scores.items():
            ends = np.quantile(values[here], [0.5, 0.25, 0.75]) if here.any() else (None, None, None)
            shown = numbers(*(None if end is None else float(end) for end in ends))
            yield ("median and quartiles", kind, "", score, *shown, *[""] * 4)


def _csv_row(
    quantity: str,
    question: str,
    level: str,
    score: str,
    estimate: Estimate | None,
    turned: str = "",
    p_holm: float | None = None,
    detectable: float | None = None,
) -> tuple[str, ...]:
    if estimate is None:
        return (quantity, question, level, score, *[""] * 7)
    found = numbers(estimate.value, estimate.low, estimate.high)
    tested = numbers(p_holm, detectable, estimate.n_items)
    return (quantity, question, level, score, *found, turned, *tested)
