"""The corpus: which generators are fit for it, their problems in four splits, and how each is shown."""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

import pyarrow as pa

from airlab.errors import UserError
from airlab.randomness import derive_seed
from airlab.schema.worked_problems import (
    SPLITS,
    VARIANTS,
    Difficulty,
    Split,
    Variant,
    WorkedProblems,
)
from airlab.text import reasoning
from airlab.text.documents import Skipped
from airlab.text.reasoning import Drawer
from airlab.text.traces import Message, Trace
from airlab.text.worked.givens import unexplained
from airlab.text.worked.problem import Problem, Refused, problem
from airlab.text.worked.variants import Solution, solution

_PROBES = 12
"""Problems drawn from a generator to see whether it is fit; the first few decide about hopeless ones."""
_FIRST_PROBES = 4
_LEAST_USABLE = 0.5
_LEAST_DISTINCT = 0.75
_CONSTANT = 0.8
"""A number that this share of a generator's solutions brings in is a constant."""
_HARDER = 1.15
"""A generator heeds its difficulty if its harder problems and solutions are so much longer."""
_PATIENCE = 40
"""After so many draws without a new problem a generator counts as exhausted."""

PROBLEMS_SCHEMA = pa.schema(
    [
        ("unit_id", pa.string()),
        ("split", pa.string()),
        ("task", pa.string()),
        ("tier", pa.int64()),
        ("difficulty", pa.int64()),
        ("variant", pa.string()),
        ("step_feeds", pa.list_(pa.bool_())),
    ]
)


class Origin(NamedTuple):
    """What a trace was made from; a row of ``problems.parquet``."""

    unit_id: str
    split: Split
    task: str
    """The generator."""
    tier: int
    difficulty: int
    variant: Variant
    step_feeds: tuple[bool, ...]
    """For each step, whether it finds a number that leads to the answer given; see `problem.feeds`."""

    def row(self) -> Any:
        """The values of its columns."""
        return tuple(self)


@dataclass(frozen=True)
class Generator:
    """A generator that is fit for the corpus."""

    drawer: Drawer
    constants: frozenset[float]
    heeds_difficulty: bool


@dataclass
class Corpus:
    """What `build_corpus` returns. Rows are in a seeded shuffle, so any prefix is a fair sample."""

    traces: dict[Split, list[Trace]]
    origins: list[Origin] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    drawn: int = 0
    manifest: dict[str, object] = field(default_factory=dict)


def build_corpus(spec: WorkedProblems, advance: Callable[[int], None] = lambda _: None) -> Corpus:
    """Draws, checks, splits and spoils; depends on the spec alone.

    No question is in two splits, nor twice in one. `advance` is told of every trace made.

    Raises:
        UserError: the generators of a level do not have as many problems as are asked for.
    """
    corpus = Corpus({split: [] for split in SPLITS})
    source = reasoning.source()
    levels, refused = fit_generators(spec)
    seen: set[str] = set()
    used: dict[str, dict[str, list[str]]] = {}
    for level, generators in levels.items():
        unseen, pool = _divided(spec, level, generators)
        homes: dict[Split, list[Generator]] = {
            "unseen": unseen,
            "harder": [item for item in pool if item.heeds_difficulty],
            "heldout": pool,
            "traces": pool,
        }
        used[level] = {split: [item.drawer.task for item in homes[split]] for split in SPLITS}
        for split, members in homes.items():
            problems = _draw(spec, level, split, members, seen, corpus)
            variants = _variants(spec, level, split, len(problems))
            for found, variant in zip(problems, variants, strict=True):
                _add(corpus, spec, source, level, split, found, variant)
                advance(1)
    for split, traces in corpus.traces.items():
        traces.sort(key=lambda trace: sha256(f"{spec.seed}/{split}/{trace.unit_id}".encode()).digest())
    corpus.manifest = _manifest(corpus, used, refused)
    return corpus


def fit_generators(spec: WorkedProblems) -> tuple[dict[str, list[Generator]], Counter[str]]:
    """The generators fit for each level, by name, and why how many others are not.

    A generator is fit if at least half of its problems can be used (`problem.problem` says when), their
    questions differ and hold all that the solutions use. Which ones are does not depend on the seed.
    """
    levels: dict[str, list[Generator]] = {level.name: [] for level in spec.levels}
    home = {tier: level.name for level in spec.levels for tier in level.tiers}
    refused: Counter[str] = Counter()
    for drawer in reasoning.drawers(max(home), 0):
        if drawer.tier not in home:
            continue
        found = _fit(drawer, spec)
        if isinstance(found, Refused):
            refused[found.reason] += 1
        else:
            levels[home[drawer.tier]].append(found)
    return levels, refused


def _fit(drawer: Drawer, spec: WorkedProblems) -> Generator | Refused:
    probes, reasons = _probes(drawer, spec, spec.difficulty)
    if len(probes) < _LEAST_USABLE * _PROBES:
        return Refused(reasons.most_common(1)[0][0])
    brought = [unexplained(item.prompt, item.steps) for item in probes]
    counts = Counter(number for numbers in brought for number in numbers)
    constants = frozenset(number for number, count in counts.items() if count >= _CONSTANT * len(probes))
    usable = [item for item, numbers in zip(probes, brought, strict=True) if numbers <= constants]
    if len(usable) < _LEAST_USABLE * _PROBES:
        return Refused("a question leaves out what its solution uses")
    if len({item.prompt for item in usable}) < _LEAST_DISTINCT * len(usable):
        return Refused("hardly any different questions")
    harder, _ = _probes(drawer, spec, spec.harder)
    heeds = len(harder) >= _LEAST_USABLE * _PROBES and _length(harder) >= _HARDER * _length(usable)
    return Generator(drawer, constants, heeds)


def _probes(
    drawer: Drawer, spec: WorkedProblems, difficulty: Difficulty
) -> tuple[list[Problem], Counter[str]]:
    drawer = drawer.again(derive_seed(0, "probe", difficulty.lowest), difficulty.lowest, difficulty.highest)
    found: list[Problem] = []
    reasons: Counter[str] = Counter()
    for number in range(_PROBES):
        if number == _FIRST_PROBES and not found:
            break
        drawn = _problem(drawer, spec, random.Random(derive_seed(0, "probe", drawer.task, number)))
        if isinstance(drawn, Problem):
            found.append(drawn)
        else:
            reasons[drawn.reason] += 1
    return found, reasons


def _problem(drawer: Drawer, spec: WorkedProblems, rng: random.Random) -> Problem | Refused:
    chain = drawer.draw()
    if chain is None:
        return Refused("fails the package's own check, or an equation does not hold")
    return problem(chain, spec.min_steps, spec.max_steps, rng)


def _length(problems: list[Problem]) -> float:
    """Mean characters of questions and solutions."""
    return sum(len(item.prompt) + len("".join(item.steps)) for item in problems) / len(problems)


def _divided(
    spec: WorkedProblems, level: str, generators: list[Generator]
) -> tuple[list[Generator], list[Generator]]:
    """(unseen, pool) of a level's generators: a seeded draw."""
    order = sorted(generators, key=lambda item: item.drawer.task)
    random.Random(derive_seed(spec.seed, "generators", level)).shuffle(order)
    order = order[: spec.generators_per_level]
    count = max(1, round(spec.unseen_generators * len(order))) if spec.unseen_per_level else 0
    if len(order) <= count:
        raise UserError(
            f"the level '{level}' has {len(order)} generators that fit and needs {count + 1}: "
            "give it more tiers, or set unseen_per_level=0."
        )
    return order[:count], order[count:]


def _draw(
    spec: WorkedProblems,
    level: str,
    split: Split,
    generators: list[Generator],
    seen: set[str],
    corpus: Corpus,
) -> list[Problem]:
    """As many new problems as asked, in turn from each generator; what is of no use is listed as skipped."""
    asked = spec.asked(split)
    difficulty = spec.harder if split == "harder" else spec.difficulty
    streams = [_Stream(spec, level, split, item, difficulty) for item in generators]
    found: list[Problem] = []
    while len(found) < asked:
        if not streams:
            raise UserError(
                f"the level '{level}' has {len(found)} problems for {split}.parquet and {asked} were asked "
                "for: ask for fewer, or give it more tiers or generators."
            )
        for stream in list(streams):
            if len(found) == asked:
                break
            drawn = stream.next(seen, corpus)
            if drawn is None:
                streams.remove(stream)
            else:
                found.append(drawn)
    return found


class _Stream:
    """The problems of one generator for one split."""

    def __init__(
        self, spec: WorkedProblems, level: str, split: Split, generator: Generator, difficulty: Difficulty
    ) -> None:
        self._spec, self._level, self._split, self._generator = spec, level, split, generator
        self._difficulty = difficulty
        seed = derive_seed(spec.seed, "problems", split)
        self._drawer = generator.drawer.again(seed, difficulty.lowest, difficulty.highest)
        self._count = 0

    def next(self, seen: set[str], corpus: Corpus) -> Problem | None:
        """The next problem that nobody has seen; None when there seems to be none left."""
        for _ in range(_PATIENCE):
            self._count += 1
            corpus.drawn += 1
            name = f"{self._split}/{self._drawer.task}/{self._count}"
            rng = random.Random(derive_seed(self._spec.seed, "error", name))
            drawn = self._unless_refused(_problem(self._drawer, self._spec, rng), seen)
            if isinstance(drawn, Problem):
                seen.add(" ".join(drawn.prompt.split()))
                return drawn
            corpus.skipped.append(Skipped(name, self._level, drawn.reason))
        return None

    def _unless_refused(self, drawn: Problem | Refused, seen: set[str]) -> Problem | Refused:
        if isinstance(drawn, Refused):
            return drawn
        if " ".join(drawn.prompt.split()) in seen:
            return Refused("the question was drawn before")
        if drawn.difficulty < self._difficulty.lowest:
            return Refused("the generator made it easier than asked")
        if not unexplained(drawn.prompt, drawn.steps) <= self._generator.constants:
            return Refused("the question leaves out what the solution uses")
        return drawn


def _variants(spec: WorkedProblems, level: str, split: Split, count: int) -> list[Variant]:
    """A variant for each problem: counts as near to the shares as whole numbers can be, in random order."""
    if split != "traces":
        return ["clean"] * count
    exact = {variant: spec.shares.of(variant) * count for variant in VARIANTS}
    whole = {variant: math.floor(share + 1e-9) for variant, share in exact.items()}
    behind = sorted(VARIANTS, key=lambda variant: whole[variant] - exact[variant])
    for variant in behind[: count - sum(whole.values())]:
        whole[variant] += 1
    variants = [variant for variant in VARIANTS for _ in range(whole[variant])]
    random.Random(derive_seed(spec.seed, "variants", level)).shuffle(variants)
    return variants


def _add(
    corpus: Corpus,
    spec: WorkedProblems,
    source: str,
    level: str,
    split: Split,
    found: Problem,
    variant: Variant,
) -> None:
    rng = random.Random(derive_seed(spec.seed, "solution", found.task, found.prompt))
    shown = solution(found, variant, inserted=spec.inserted, lead_ins=spec.lead_ins, rng=rng)
    name = sha256(f"{found.prompt}\n{shown.response}".encode()).hexdigest()[:20]
    trace = Trace(
        unit_id=f"{level}-{name}",
        domain=level,
        messages=(Message("user", found.prompt),),
        response=shown.response,
        source=source,
        licence=reasoning.LICENCE,
        answer=found.answer,
        step_kinds=tuple(step.kind for step in shown.steps),
        step_ends=shown.step_ends,
    )
    corpus.traces[split].append(trace)
    corpus.origins.append(
        Origin(
            trace.unit_id,
            split,
            found.task,
            found.tier,
            found.difficulty,
            variant,
            _feeding(found, shown),
        )
    )


def _feeding(found: Problem, shown: Solution) -> tuple[bool, ...]:
    """The checked solution's feeding steps, where they stand now; a false step feeds if it is carried on."""
    return tuple(
        step.kind == "answer"
        or (
            step.origin is not None
            and found.feeds[step.origin]
            and not (step.kind == "wrong" and shown.variant == "wrong_corrected")
        )
        for step in shown.steps
    )


def _manifest(
    corpus: Corpus, used: dict[str, dict[str, list[str]]], refused: Counter[str]
) -> dict[str, object]:
    def counts(names: Iterable[str]) -> dict[str, int]:
        return dict(sorted(Counter(names).items()))

    kinds = (kind for trace in corpus.traces["traces"] for kind in trace.step_kinds or ())
    return {
        "drawn": corpus.drawn,
        "written": {split: len(corpus.traces[split]) for split in SPLITS},
        "skipped": counts(row.reason for row in corpus.skipped),
        "variants": counts(
            f"{origin.unit_id.rpartition('-')[0]}/{origin.variant}"
            for origin in corpus.origins
            if origin.split == "traces"
        ),
        "steps": counts(kinds),
        "generators": used,
        "generators_refused": dict(sorted(refused.items())),
    }
