"""A generated corpus of worked problems: which problems, how many, and how they are spoilt."""

import math
from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from airlab.schema.base import Frozen

Variant = Literal[
    "clean", "padded", "redundant", "wrong_carried", "wrong_corrected", "shuffled", "answer_only"
]
VARIANTS: tuple[Variant, ...] = (
    "clean",
    "padded",
    "redundant",
    "wrong_carried",
    "wrong_corrected",
    "shuffled",
    "answer_only",
)

StepKind = Literal["clean", "padded", "redundant", "wrong", "carried", "correction", "answer"]
"""What a step is.

`clean`: a step of the checked solution. `padded`: says nothing new. `redundant`: repeats or derives again
what an earlier step found. `wrong`: its equation is false. `carried`: its equation is true, of a number that
an earlier wrong step got wrong. `correction`: takes a wrong step back. `answer`: the last line.
"""
STEP_KINDS: tuple[StepKind, ...] = (
    "clean",
    "padded",
    "redundant",
    "wrong",
    "carried",
    "correction",
    "answer",
)

Split = Literal["traces", "heldout", "harder", "unseen"]
SPLITS: tuple[Split, ...] = ("traces", "heldout", "harder", "unseen")
"""Where a problem goes, and the file's name: the pool; other problems of its generators; harder ones of
them; problems of generators that the pool does not have."""


class Level(Frozen):
    """A domain of the corpus: the generators of some of the package's tiers."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    tiers: tuple[int, ...] = Field(min_length=1)
    """0-1 arithmetic, 2-3 school, 4-5 first-year university formulas, 6-7 beyond."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if min(self.tiers) < 0 or max(self.tiers) > 7:
            raise ValueError("tiers are 0 to 7")
        return self


class Shares(Frozen):
    """How the pool divides into variants; the shares sum to one."""

    clean: float = Field(default=0.3, ge=0)
    padded: float = Field(default=0.2, ge=0)
    redundant: float = Field(default=0.15, ge=0)
    wrong_carried: float = Field(default=0.1, ge=0)
    wrong_corrected: float = Field(default=0.1, ge=0)
    shuffled: float = Field(default=0.1, ge=0)
    answer_only: float = Field(default=0.05, ge=0)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not math.isclose(total := sum(self.of(variant) for variant in VARIANTS), 1.0, abs_tol=1e-9):
            raise ValueError(f"the shares of the variants sum to {total:g} instead of 1")
        return self

    def of(self, variant: Variant) -> float:
        """The share of a variant."""
        return float(getattr(self, variant))


class Difficulty(Frozen):
    """A range of the package's difficulties within a generator, both ends included."""

    lowest: int = Field(ge=1, le=8)
    highest: int = Field(ge=1, le=8)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lowest > self.highest:
            raise ValueError("the lowest difficulty is above the highest")
        return self


class WorkedProblems(Frozen):
    """A corpus of worked problems whose every step is of a known kind."""

    levels: tuple[Level, ...] = (
        Level(name="school", tiers=(0, 1, 2, 3)),
        Level(name="formulas", tiers=(4, 5)),
        Level(name="university", tiers=(6, 7)),
    )
    """The domains; a generator belongs to one."""
    generators_per_level: PositiveInt | None = None
    """Use only so many generators of each level, drawn by the seed; null for all that fit."""
    difficulty: Difficulty = Difficulty(lowest=1, highest=5)
    """Of the pool, of held-out problems and of unseen generators."""
    harder: Difficulty = Difficulty(lowest=7, highest=8)
    """Of the harder problems: out of the pool's range."""
    min_steps: int = Field(default=2, ge=2)
    max_steps: int = Field(default=12, ge=2)
    """Steps of a clean solution, without the answer."""
    traces_per_level: PositiveInt = 1000
    """Problems in the pool; each is in it once, as one variant."""
    heldout_per_level: NonNegativeInt = 100
    """Other problems of the pool's generators, at the pool's difficulty; always clean."""
    harder_per_level: NonNegativeInt = 100
    """Problems of the pool's generators beyond its difficulty; always clean."""
    unseen_per_level: NonNegativeInt = 100
    """Problems of generators that the pool does not have; always clean."""
    unseen_generators: float = Field(default=0.15, gt=0, lt=1)
    """Share of each level's generators that the pool does not get."""
    shares: Shares = Shares()
    inserted: float = Field(default=0.5, gt=0, le=4)
    """Padded or redundant steps put into a solution for each of its steps; at least one."""
    lead_ins: float = Field(default=0.4, ge=0, le=1)
    """Share of a solution's own steps, clean or wrong, that begin with words such as "Next," or "So:"."""
    seed: int = 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [level.name for level in self.levels]
        tiers = [tier for level in self.levels for tier in level.tiers]
        if not self.levels or len(set(names)) != len(names) or len(set(tiers)) != len(tiers):
            raise ValueError("each level needs a name and tiers of its own")
        if self.min_steps > self.max_steps:
            raise ValueError("min_steps is above max_steps")
        if self.harder.lowest <= self.difficulty.highest:
            raise ValueError("the harder problems' difficulty must begin above the pool's")
        if self.generators_per_level == 1 and self.unseen_per_level:
            raise ValueError("with one generator a level none is left to be unseen")
        return self

    def asked(self, split: Split) -> int:
        """Problems a level of a split."""
        return {
            "traces": self.traces_per_level,
            "heldout": self.heldout_per_level,
            "harder": self.harder_per_level,
            "unseen": self.unseen_per_level,
        }[split]
