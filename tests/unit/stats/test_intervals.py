import math

import numpy as np
import pytest
from scipy import stats

from airlab.randomness import generator
from airlab.stats.error import Error
from airlab.stats.estimate import Estimate
from airlab.stats.grid import Grid, arrange, cluster_values, paired_difference
from airlab.stats.intervals import (
    ITEMS_ONLY,
    RUNS_AND_ITEMS,
    cluster_interval,
    compare,
    interval,
    mean_interval,
)
from airlab.stats.multiplicity import holm


def grid(values, runs=None, clusters=None) -> Grid:
    values = np.asarray(values, dtype=float)
    names = tuple(f"i{index:03d}" for index in range(values.shape[1]))
    return Grid(tuple(runs or range(values.shape[0])), names, values, clusters)


def allowed_misses(trials: int, level: float) -> tuple[float, float]:
    """A 99.9 % range of the coverage that `trials` simulations of a correct interval show."""
    error = 3.3 * math.sqrt(level * (1 - level) / trials)
    return level - error, level + error


def coverage(draw, trials: int) -> float:
    hits = 0
    for trial in range(trials):
        estimate = draw(generator(0, "simulated data", trial), generator(0, "bootstrap", trial))
        hits += estimate.low <= 0 <= estimate.high
    return hits / trials


def test_unknown_is_printed_as_unknown_and_never_as_zero() -> None:
    unknown = Estimate(0.5, None, None, 0.95, "m", 1, 1)
    assert unknown.text() == "0.500 [unknown]" and unknown.as_dict()["low"] is None and not unknown.known
    assert Estimate(-0.0001, -0.1, 0.1, 0.95, "m", 1, 1).text(2, sign=True) == "+0.00 [-0.10, +0.10]"
    with pytest.raises(ValueError, match="both ends"):
        Estimate(0.5, 0.1, None, 0.95, "m", 1, 1)


@pytest.mark.parametrize("values", [[0.7], [1.0, 1.0, 1.0]])
def test_values_that_do_not_vary_give_no_certainty(values) -> None:
    assert not mean_interval(np.array(values), rng=generator(0)).known
    assert not interval(grid([values]), rng=generator(0)).known
    assert compare([grid([values])], rng=generator(0)).p_value is None


def test_the_generator_passed_is_the_one_used() -> None:
    values = generator(1).exponential(size=(3, 30))
    for make in (
        lambda rng: mean_interval(values[0], rng=rng),
        lambda rng: interval(grid(values), rng=rng),
        lambda rng: compare([grid(values[:1])], rng=rng).estimate,
    ):
        assert make(generator(5)) == make(generator(5))
        assert make(generator(5)) != make(generator(6))
        used = generator(5)
        make(used)
        assert used.bit_generator.state != generator(5).bit_generator.state


def test_one_seed_gives_an_item_interval_and_says_so() -> None:
    one = interval(grid(generator(0).normal(size=(1, 50))), rng=generator(1))
    assert one.known and one.method == ITEMS_ONLY and "seed variation unknown" in one.method
    assert (one.n_runs, one.n_items) == (1, 50)
    two = interval(grid(generator(0).normal(size=(2, 50))), rng=generator(1))
    assert two.method == RUNS_AND_ITEMS and two.n_runs == 2


def test_item_interval_covers_as_often_as_it_says() -> None:
    def draw(data, rng):
        return mean_interval(data.normal(size=40), rng=rng, resamples=400)

    low, high = allowed_misses(400, 0.95)
    assert low - 0.02 <= coverage(draw, 400) <= high  # 2 points: 40 items and 400 resamples


@pytest.mark.parametrize(
    ("n_runs", "run_sd", "item_sd"), [(2, 0.0, 1.0), (3, 1.0, 0.3), (3, 0.2, 1.0), (5, 0.5, 1.0)]
)
def test_seeds_and_items_interval_covers_as_often_as_it_says(n_runs, run_sd, item_sd) -> None:
    def draw(data, rng):
        values = (
            run_sd * data.normal(size=(n_runs, 1))
            + item_sd * data.normal(size=(1, 30))
            + data.normal(size=(n_runs, 30))
        )
        return interval(grid(values), rng=rng, resamples=300)

    low, _ = allowed_misses(400, 0.95)
    # Conservative is allowed: with few seeds the variance is bounded from below by each of its parts.
    assert coverage(draw, 400) >= low - 0.01


def test_a_percentile_interval_over_three_seeds_would_fail_that() -> None:
    def draw(data, rng):
        values = data.normal(size=3)
        means = values[rng.integers(0, 3, (300, 3))].mean(axis=1)
        return Estimate(values.mean(), *np.quantile(means, [0.025, 0.975]), 0.95, "percentile", 1, 3)

    assert coverage(draw, 400) < 0.85


def test_clusters_widen_the_interval_as_simulation_says() -> None:
    names = tuple(index // 10 for index in range(100))

    def draw(data, rng, clusters=names):
        values = np.repeat(data.normal(size=10), 10) + 0.3 * data.normal(size=100)
        return compare([grid([values], clusters=clusters)], rng=rng, resamples=300).estimate

    low, high = allowed_misses(300, 0.95)
    assert low <= coverage(draw, 300) <= high
    assert coverage(lambda data, rng: draw(data, rng, None), 300) < 0.7


def test_cluster_values_keep_the_mean_of_the_items() -> None:
    values = generator(0).normal(size=(2, 9))
    clustered = grid(values, clusters=tuple("aaaabbccc"))
    assert cluster_values(clustered).shape == (2, 3)
    assert cluster_values(clustered).mean(axis=1) == pytest.approx(values.mean(axis=1))
    assert interval(clustered, rng=generator(0)).value == pytest.approx(values.mean())
    assert cluster_interval(grid(values[:1], clusters=tuple("aaaabbccc")), rng=generator(0)).n_items == 3
    with pytest.raises(ValueError, match="one run"):
        cluster_interval(clustered, rng=generator(0))


def test_pairing_goes_by_item_and_seed_not_by_position() -> None:
    rows = [(s, f"i{i}", None, 10.0 * s + i) for s in (1, 2) for i in range(4)]
    variant = arrange((s, item, c, v + 0.5) for s, item, c, v in rows)
    difference = paired_difference(variant, arrange(rows[::-1]))
    assert difference.values == pytest.approx(np.full((2, 4), 0.5))
    shuffled = Grid(variant.runs[::-1], variant.items[::-1], variant.values[::-1, ::-1])
    assert paired_difference(shuffled, arrange(rows)).values == pytest.approx(np.full((2, 4), 0.5))


def test_pairing_makes_item_difficulty_vanish() -> None:
    hard = 10 * generator(0).normal(size=(1, 60))
    noise = generator(1).normal(size=(2, 60)) * 0.1
    paired = compare(
        [paired_difference(grid(hard + 0.2 + noise[:1]), grid(hard + noise[1:]))], rng=generator(2)
    )
    assert paired.error is not None and paired.error.half_width(0.95) < 0.1
    assert paired.p_value is not None and paired.p_value < 1e-3


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (grid(np.zeros((1, 4))), "1 items are in one"),
        (grid(np.zeros((1, 3)), runs=[7]), "seeds \\[0\\] against \\[7\\]"),
        (grid(np.zeros((1, 3)), clusters=("a", "a", "b")), "different clusters"),
    ],
)
def test_the_unpaired_is_refused(reference: Grid, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_difference(grid(np.zeros((1, 3))), reference)


def test_rows_that_make_no_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="run 2 lacks 1 of 2"):
        arrange([(1, "a", None, 0.0), (1, "b", None, 0.0), (2, "a", None, 0.0)])
    with pytest.raises(ValueError, match="twice"):
        arrange([(1, "a", None, 0.0), (1, "a", None, 0.0)])
    with pytest.raises(ValueError, match="two clusters"):
        arrange([(1, "a", "x", 0.0), (2, "a", "y", 0.0)])
    with pytest.raises(ValueError, match="finite"):
        arrange([(1, "a", None, math.nan)])
    mixed = arrange([(1, "a", "x", 0.0), (1, "b", None, 0.0), (1, "c", None, 0.0)])
    assert mixed.clusters is not None and len(set(mixed.clusters)) == 3


def test_strata_weigh_alike_in_their_own_units() -> None:
    small, large = grid([[1.0, 3.0]]), grid([[10.0, 20.0, 30.0, 40.0]])
    both = compare([small, large], rng=generator(0), scales=[2.0, -10.0])
    assert both.estimate.value == pytest.approx((2.0 / 2 - 25.0 / 10) / 2)
    with pytest.raises(ValueError, match="same runs"):
        compare([small, grid([[1.0, 2.0]], runs=[4])], rng=generator(0))


def test_a_seeds_luck_is_shared_by_its_tasks() -> None:
    luck = np.array([[-1.0], [0.0], [1.0]])
    items = 0.01 * generator(0).normal(size=(4, 3, 40))
    together = compare([grid(luck + part) for part in items], rng=generator(1))
    assert together.error is not None
    assert together.error.half_width(0.95) == pytest.approx(stats.t.ppf(0.975, 2) / math.sqrt(3), rel=0.02)


def test_false_alarms_are_as_rare_as_the_p_value_says() -> None:
    alarms = 0
    for trial in range(400):
        data = generator(0, "null", trial)
        strata = [grid(data.normal(size=(3, 20))) for _ in range(3)]
        result = compare(strata, rng=generator(1, trial), resamples=50)
        assert result.p_value is not None
        alarms += result.p_value < 0.05
    assert alarms / 400 <= 0.05 + 3.3 * math.sqrt(0.05 * 0.95 / 400)


def test_holm_is_the_textbooks() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )
    assert holm({}) == {} and holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    with pytest.raises(ValueError, match="p-value of a"):
        holm({"a": 1.5})


def test_detectable_effect_is_found_as_often_as_promised() -> None:
    """Whole experiments are simulated: four seeds, tested by `compare` among three comparisons."""
    spread, runs, items = 1.0, 4, 30
    # All noise is the seeds'.
    effect = Error(0.0, 1.0, spread**2 / runs, runs - 1).detectable(3, level=0.95, power=0.8)
    found = 0
    for trial in range(400):
        luck = generator(0, "power", trial).normal(effect, spread, size=(runs, 1))
        noise = generator(1, "power", trial).normal(scale=1e-3, size=(runs, items))
        p_value = compare([grid(luck + noise)], rng=generator(2, trial), resamples=20).p_value
        assert p_value is not None
        found += holm({"this": p_value, "null": 0.9, "other": 0.8})["this"] <= 0.05
    assert found / 400 == pytest.approx(0.8, abs=0.12)
    assert Error(4.0, 1e9, 0.0, 0).detectable(1) == pytest.approx(2.0 * 2.8016, rel=1e-4)


@pytest.mark.parametrize("error", [Error(1.0, 30, 0.0, 0), Error(0.0, 1, 4.0, 2), Error(0.3, 12, 2.0, 2)])
def test_a_p_value_is_the_level_whose_interval_ends_at_zero(error: Error) -> None:
    for level in (0.5, 0.95, 0.9999):
        assert error.p_value(-error.half_width(level)) == pytest.approx(1 - level, rel=1e-6)
    assert error.p_value(0.0) == pytest.approx(1.0)
    assert 0 < error.p_value(1e300) < 1e-20


def test_one_source_of_error_is_students_t() -> None:
    assert Error(4.0, 7, 0.0, 0).p_value(3.0) == pytest.approx(2 * stats.t.sf(1.5, 7))
    assert Error(0.0, 1, 4.0, 2).half_width(0.95) == pytest.approx(2 * stats.t.ppf(0.975, 2))


def test_tasks_of_the_same_documents_are_no_independent_evidence() -> None:
    """Two columns that repeat each other: as sure as one of them alone, not surer."""
    data = generator(0, "repeat").normal(size=(3, 40))
    documents = tuple(("cluster", f"d{i}") for i in range(40))
    one = Grid((0, 1, 2), tuple(f"i{i}" for i in range(40)), data, documents)
    apart = Grid(one.runs, one.items, data, tuple(("cluster", f"e{i}") for i in range(40)))
    alone = compare([one], rng=generator(1), resamples=50).error
    together = compare([one, one], rng=generator(1), resamples=50).error
    unrelated = compare([one, apart], rng=generator(1), resamples=50).error
    assert alone is not None and together is not None and unrelated is not None
    assert together.items == pytest.approx(alone.items) and together.runs == pytest.approx(alone.runs)
    assert unrelated.items < 0.9 * alone.items


def test_a_proportions_interval_stays_one() -> None:
    values = np.zeros((2, 6))
    values[0, 0] = 1.0
    estimate = interval(grid(values), rng=generator(0))
    assert estimate.low == 0.0 and 0 < estimate.value < estimate.high <= 1.0
    assert interval(grid(values - 0.5), rng=generator(0)).low < -0.5


def test_statistics_and_tables_need_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys, airlab.stats.intervals, airlab.stats.multiplicity, airlab.reporting.render, "
        "airlab.reporting.lock, airlab.schema.evaluation, airlab.stages.evaluate; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
