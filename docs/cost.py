"""Writes docs/COST.md: what the tables cost on one H100, and at the paper's scale. `make docs`.

Plans are `airlab plan`'s arithmetic with the rates of `benchmarks/results/`; what was measured is in the
tables' locks. A test holds the page to what this writes.
"""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from airlab.cli.bind import bind, to_plain
from airlab.cli.experiment import ONLY_PLANNED, open_plain
from airlab.cli.main import configs_folder
from airlab.cli.plan import RATES, TRAINING_RATES, PlanCommand, amount, count, rates_file
from airlab.cli.plan_costs import Planner
from airlab.planning.costs import Cost, total
from airlab.planning.rates import read_measured
from airlab.reporting.lock import LOCK, read_lock
from airlab.stages.continue_pretraining import Trained
from airlab.stages.detect_heads import DetectHeads
from airlab.stages.evaluate import Evaluate
from airlab.stages.measure_losses import MeasureLosses
from airlab.store.plan import Plan
from airlab.store.store import Store

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "COST.md"

EXPERIMENTS = (
    "selection",
    "selector_size",
    "continued",
    "replayed",
    "development",
    "improved",
    "improved_scratch",
    "coverage",
    "coverage_scratch",
    "ablations_31m",
    "weak_to_strong",
    "weak_to_strong_arms",
    "weak_to_strong_selectors",
    "weak_to_strong_360m",
)
"""Of AttentionInfluence, those that are for `scale=h100` and that a plan can count."""

AT_PAPERS_SCALE = ("weak_to_strong", "weak_to_strong_arms")
"""The grids that mean the same there; the others train models and pools of their own size."""

PAPER = "main"

_ON_A_GPU = (DetectHeads, MeasureLosses, Trained, Evaluate)

_TEXT = """# What the tables cost

Written by `docs/cost.py` out of `airlab plan`'s arithmetic, the rates of `benchmarks/results/` and the locks
of published tables. `airlab plan experiment=… scale=… machine=gpu1` says more about each.

## On one H100

Minutes of a GPU, each experiment as if nothing were there: tables share their passes, and many of their
models. *Measured* adds up the seconds of all processes that finished an artifact, also where two shared a
GPU; starting, compiling and what a processor does meanwhile are in it, and in no plan. Where it is missing
there is no table yet, or its models went before anybody noted their times.

{here}

Where plans are known to be wrong ([log](LOG.md)): a model of `continued` took 71 seconds of a GPU to train
and not 45, since SmolLM2's thin layers are slower than those of the target whose rate is used; and its
tasks, with two processes on a GPU, 30 to 38 seconds and not three, for a tenth of the peak is assumed.

## At the paper's scale

GPU-hours of H100s for targets of 6.98B parameters on 1T tokens, chosen from 241B by a selector of 1.3B; none
of it was run. Training counts an assumed share of the peak, scoring a measured rate.

{there}

Choosing the data costs {paper_share} of training on it there, and {own_share} in `weak_to_strong` on one
H100. What costs is knowing whether it helps: one seed of every control, `weak_to_strong_arms`, takes
{factor} times the hours of `main`.
"""


@dataclass(frozen=True)
class Planned:
    """What an experiment takes at a scale.

    Attributes:
        models: trained.
        tokens: that all of them are trained on.
        stages: names of those that run on a GPU.
        scored: tokens that pass through base and reference model.
        scoring, training, evaluation: GPU-hours; None if unknown.
    """

    models: int
    tokens: float
    stages: frozenset[str]
    scored: float | None
    scoring: float | None
    training: float | None
    evaluation: float | None


def planned(experiment: str, scale: str, folder: Path) -> Planned:
    """Count an experiment as `airlab plan experiment=… scale=… machine=gpu1` does where nothing is there yet.

    Args:
        folder: an empty store.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        name = f"attention_influence/{experiment}"
        config = to_plain(compose("plan", [f"experiment={name}", f"scale={scale}", "machine=gpu1"]))
    module, bound, command = open_plain(config)
    assumptions = bind(PlanCommand, {key: config[key] for key in ONLY_PLANNED}).planning
    measured = read_measured(rates_file(RATES), rates_file(TRAINING_RATES))
    store = Store(folder)
    planner = Planner(assumptions, measured, command.machine, store)
    order = Plan(store, list(module.targets(bound).values())).order

    def of(kinds: Any) -> list[Cost]:
        return [planner.cost(stage) for stage in order if isinstance(stage, kinds)]

    trained, scoring = of(Trained), of(MeasureLosses)
    return Planned(
        len(trained),
        sum(cost.tokens or 0.0 for cost in trained),
        frozenset(stage.name for stage in order if isinstance(stage, _ON_A_GPU)),
        total(cost.tokens for cost in scoring),
        _hours(of((DetectHeads, MeasureLosses))),
        _hours(trained),
        _hours(of(Evaluate)),
    )


def _hours(costs: Iterable[Cost]) -> float | None:
    return total(cost.gpu_hours for cost in costs)


def measured_minutes(experiment: str, stages: Iterable[str]) -> float | None:
    """Minutes of processes in these stages of a published table; None without one, or if some are unknown."""
    folder = ROOT / "results" / "attention_influence" / experiment / "h100"
    if not (folder / LOCK).is_file():
        return None
    wall_s = read_lock(folder).wall_s
    minutes = [wall_s.get(stage, 0.0) / 60 for stage in stages]
    return sum(minutes) if all(minutes) else None


def page() -> str:
    """The whole of docs/COST.md."""
    with tempfile.TemporaryDirectory() as empty:
        grids = {name: planned(name, "h100", Path(empty)) for name in EXPERIMENTS}
        paper = {name: planned(name, "paper", Path(empty)) for name in (*AT_PAPERS_SCALE, PAPER)}
    here = [
        "| experiment | models | tokens a model | scoring | training | evaluation | a model | measured |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        *(_row(name, grid) for name, grid in grids.items()),
    ]
    there = [
        "| experiment | models | tokens a model | tokens scored | scoring | training | evaluation |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *(
            f"| `{name}` | {one.models} | {_each(one)} | {count(one.scored)} | {amount(one.scoring)} | "
            f"{amount(one.training)} | {amount(one.evaluation)} |"
            for name, one in paper.items()
        ),
    ]
    return _TEXT.format(here="\n".join(here), there="\n".join(there), **_shares(grids, paper))


def _row(name: str, grid: Planned) -> str:
    minutes = measured_minutes(name, grid.stages)
    each = None if grid.training is None or not grid.models else 60 * grid.training / grid.models
    cells = (
        f"`{name}`",
        str(grid.models or "–"),
        _each(grid),
        *(amount(_minutes(hours)) for hours in (grid.scoring, grid.training, grid.evaluation)),
        "–" if each is None else amount(each),
        "–" if minutes is None else amount(minutes),
    )
    return f"| {' | '.join(cells)} |"


def _each(grid: Planned) -> str:
    return count(grid.tokens / grid.models) if grid.models else "–"


def _minutes(hours: float | None) -> float | None:
    return None if hours is None else 60 * hours


def _shares(grids: dict[str, Planned], paper: dict[str, Planned]) -> dict[str, str]:
    whole, own = paper[PAPER], grids["weak_to_strong"]
    controls = paper["weak_to_strong_arms"]
    assert whole.scoring and whole.training and own.scoring and own.training and controls.training
    return {
        "paper_share": f"{whole.scoring / whole.training:.1%}",
        "own_share": f"{own.scoring / own.training:.1%}",
        "factor": f"{controls.training / whole.training:.1f}",
    }


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
