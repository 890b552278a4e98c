"""Runs x items: the shape in which values are compared, and pairing two of them."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Values of one metric on one task: every run (training seed) saw every item.

    `values` is [runs, items]; `clusters` says which items belong together (None: each on its own).
    """

    runs: tuple[int, ...]
    items: tuple[str, ...]
    values: Array
    clusters: tuple[Hashable, ...] | None = None

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.runs), len(self.items)):
            raise ValueError(
                f"values of shape {self.values.shape} for {len(self.runs)} runs x {len(self.items)} items"
            )
        if not self.runs or not self.items:
            raise ValueError("a grid needs at least one run and one item")
        if len(set(self.runs)) != len(self.runs) or len(set(self.items)) != len(self.items):
            raise ValueError("a run or an item appears twice")
        if self.clusters is not None and len(self.clusters) != len(self.items):
            raise ValueError("every item needs a cluster, or none has one")
        if not np.isfinite(self.values).all():
            raise ValueError("values must be finite")


def arrange(rows: Iterable[tuple[int, str, str | None, float]]) -> Grid:
    """(run, item, cluster, value) rows -> a grid, runs and items sorted.

    Raises ValueError when a run lacks an item that another has, or has one twice. An item without a
    cluster is a cluster of its own.
    """
    values: dict[tuple[int, str], float] = {}
    cluster_of: dict[str, str | None] = {}
    for run, item, cluster, value in rows:
        if (run, item) in values:
            raise ValueError(f"run {run} has item {item} twice")
        if cluster_of.setdefault(item, cluster) != cluster:
            raise ValueError(f"item {item} belongs to two clusters")
        values[run, item] = value
    runs = sorted({run for run, _ in values})
    items = sorted(cluster_of)
    for run in runs:
        if absent := [item for item in items if (run, item) not in values]:
            raise ValueError(f"run {run} lacks {len(absent)} of {len(items)} items")
    clusters = None
    if any(cluster is not None for cluster in cluster_of.values()):
        clusters = tuple(
            ("item", item) if (own := cluster_of[item]) is None else ("cluster", own) for item in items
        )
    array = np.array([[values[run, item] for item in items] for run in runs], dtype=np.float64)
    return Grid(tuple(runs), tuple(items), array.reshape(len(runs), len(items)), clusters)


def paired_difference(variant: Grid, reference: Grid) -> Grid:
    """variant - reference, item by item and seed by seed.

    Raises ValueError when items, seeds or clusters differ: an unpaired difference would count the
    items' own difficulty as noise, or compare different questions.
    """
    if set(variant.items) != set(reference.items):
        differing = len(set(variant.items) ^ set(reference.items))
        raise ValueError(f"unpaired: {differing} items are in one of the two variants only")
    if set(variant.runs) != set(reference.runs):
        raise ValueError(f"unpaired: seeds {sorted(variant.runs)} against {sorted(reference.runs)}")
    rows = [reference.runs.index(run) for run in variant.runs]
    column_of = {item: column for column, item in enumerate(reference.items)}
    columns = [column_of[item] for item in variant.items]
    if variant.clusters is not None or reference.clusters is not None:
        aligned = (
            None if reference.clusters is None else tuple(reference.clusters[column] for column in columns)
        )
        if aligned != variant.clusters:
            raise ValueError("unpaired: the same items belong to different clusters in the two variants")
    return Grid(
        variant.runs,
        variant.items,
        variant.values - reference.values[np.ix_(rows, columns)],
        variant.clusters,
    )


def cluster_values(grid: Grid) -> Array:
    """[runs, clusters] pseudo-values whose mean is the mean over items and which are independent.

    For cluster k of K holding the items i: m + (K / N) * sum over i of (x_i - m), with m the run's mean
    over all N items (the linearised ratio estimator). Without clusters these are the items themselves.
    """
    if grid.clusters is None:
        return grid.values
    names = {name: index for index, name in enumerate(dict.fromkeys(grid.clusters))}
    of_item = np.array([names[name] for name in grid.clusters])
    mean = grid.values.mean(axis=1, keepdims=True)
    sums = np.zeros((len(grid.runs), len(names)))
    np.add.at(sums.T, of_item, (grid.values - mean).T)
    return mean + sums * (len(names) / len(grid.items))


def unit_names(grid: Grid, stratum: int) -> list[Hashable]:
    """Names of the columns of `cluster_values`, equal in two strata only for the same cluster."""
    if grid.clusters is None:
        return [("item", stratum, item) for item in grid.items]
    named = dict.fromkeys(grid.clusters)
    return [name if isinstance(name, tuple) and name[0] == "cluster" else (stratum, name) for name in named]
