"""Intervals as tables use them hold the truth as often as they say, in whole simulated experiments.

Each simulation draws new seeds, documents and items; the true difference is zero. What ignores a part of
that would fail the same check, and is shown to.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from airlab.randomness import generator
from airlab.stats.estimate import Estimate
from airlab.stats.grid import Grid, cluster_values
from airlab.stats.intervals import compare

TRIALS, LEVEL = 400, 0.95


def slack(coverage: float) -> float:
    """What the simulated coverage may differ from the true one, by chance once in a thousand."""
    return 3.3 * math.sqrt(coverage * (1 - coverage) / TRIALS)


FEWEST = LEVEL - slack(LEVEL)
"""The lowest simulated coverage that agrees with the level."""


@dataclass(frozen=True)
class World:
    """An experiment of several tasks whose items come from the same documents, seen by every seed.

    Standard deviations: `luck` of a seed, in all its tasks; `document` of a document, in all of them;
    `reading` of a seed's view of a document; `item` of the rest.
    """

    tasks: int
    seeds: int
    documents: int
    items_each: int
    luck: float = 0.0
    document: float = 0.0
    reading: float = 0.0
    item: float = 1.0

    def draw(self, trial: int) -> list[Grid]:
        data = generator(0, "world", trial)
        luck = self.luck * data.normal(size=(self.seeds, 1))
        document = self.document * data.normal(size=(1, self.documents))
        reading = self.reading * data.normal(size=(self.seeds, self.documents))
        shared = np.repeat(luck + document + reading, self.items_each, axis=1)
        names = tuple(("cluster", d) for d in range(self.documents) for _ in range(self.items_each))
        items = tuple(f"i{i}" for i in range(len(names)))
        return [
            Grid(tuple(range(self.seeds)), items, shared + self.item * data.normal(size=shared.shape), names)
            for _ in range(self.tasks)
        ]


Interval = Callable[[list[Grid], np.random.Generator], Estimate]


def ours(grids: list[Grid], rng: np.random.Generator) -> Estimate:
    return compare(grids, rng=rng, level=LEVEL, resamples=400).estimate


def named_apart(grids: list[Grid], rng: np.random.Generator) -> Estimate:
    """As if each task had documents of its own."""
    apart = [
        Grid(g.runs, g.items, g.values, tuple(("cluster", (task, name)) for name in g.clusters or ()))
        for task, g in enumerate(grids)
    ]
    return ours(apart, rng)


def without_clusters(grids: list[Grid], rng: np.random.Generator) -> Estimate:
    """As if every item were evidence of its own."""
    return ours([Grid(g.runs, g.items, g.values) for g in grids], rng)


def without_seeds(grids: list[Grid], rng: np.random.Generator) -> Estimate:
    """As if the mean over seeds were one run."""
    return ours([Grid((0,), g.items, g.values.mean(axis=0, keepdims=True), g.clusters) for g in grids], rng)


def percentile(grids: list[Grid], rng: np.random.Generator) -> Estimate:
    """The plain bootstrap: seeds and documents drawn, quantiles of the means taken as they are."""
    values = np.mean([cluster_values(g) for g in grids], axis=0)
    seeds, documents = values.shape
    means = [
        values[np.ix_(rng.integers(0, seeds, seeds), rng.integers(0, documents, documents))].mean()
        for _ in range(400)
    ]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(values.mean()), float(low), float(high), LEVEL, "percentile", documents, seeds)


def coverage(world: World, interval: Interval) -> float:
    hits = 0
    for trial in range(TRIALS):
        estimate = interval(world.draw(trial), generator(0, "bootstrap", trial))
        assert estimate.low is not None and estimate.high is not None
        hits += estimate.low <= 0 <= estimate.high
    return hits / TRIALS


ITEMS = World(tasks=1, seeds=1, documents=40, items_each=1)
CLUSTERS = World(tasks=1, seeds=1, documents=20, items_each=5, document=1, item=0.3)
SEEDS = World(tasks=1, seeds=3, documents=40, items_each=1, luck=0.5)
TWO_SEEDS = World(tasks=1, seeds=2, documents=40, items_each=1, luck=0.5)
BOTH = World(tasks=1, seeds=3, documents=20, items_each=5, luck=0.2, document=1, reading=0.3, item=0.3)
COMPOSITE = World(tasks=4, seeds=3, documents=20, items_each=3, luck=0.1, document=1, reading=0.2, item=0.5)
FIVE = World(tasks=4, seeds=5, documents=20, items_each=3, luck=0.4, document=1, reading=0.2, item=0.5)
WORLDS = {
    "one run, items": ITEMS,
    "one run, clusters": CLUSTERS,
    "two seeds and items": TWO_SEEDS,
    "seeds and items": SEEDS,
    "seeds and clusters": BOTH,
    "composite over tasks of the same documents": COMPOSITE,
    "composite, five seeds": FIVE,
}


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_intervals_cover_as_often_as_they_say(world: World) -> None:
    assert coverage(world, ours) >= FEWEST


@pytest.mark.parametrize(
    ("world", "naive"),
    [
        (CLUSTERS, without_clusters),
        (BOTH, without_clusters),
        (SEEDS, without_seeds),
        (SEEDS, percentile),
        (COMPOSITE, named_apart),
        (COMPOSITE, without_clusters),
        (FIVE, without_seeds),
    ],
    ids=lambda value: value.__name__ if callable(value) else next(n for n, w in WORLDS.items() if w == value),
)
def test_what_ignores_a_part_fails_the_same_check(world: World, naive: Interval) -> None:
    assert coverage(world, naive) < FEWEST


def test_intervals_are_no_wider_than_they_have_to_be() -> None:
    """Where nothing but items varies, an interval that always covers would be no news either."""
    for world in (ITEMS, CLUSTERS):
        assert coverage(world, ours) <= LEVEL + slack(LEVEL)
