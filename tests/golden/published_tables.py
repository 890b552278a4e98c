"""Committed tables as they were when they were written: their configuration's form, their files' numbers."""

import json
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from airlab.cli.experiment import open_experiment
from airlab.cli.main import configs_folder
from airlab.reporting.tables import Cell, Contrast, Table, Verdict
from airlab.stats.estimate import Estimate
from airlab.store.store import Store

RESULTS = Path(__file__).parents[2] / "results"
TABLES = sorted(path.parent.relative_to(RESULTS).as_posix() for path in RESULTS.rglob("estimates.json"))


def published_table(name: str, empty: Path) -> Table:
    """The table of results/`name`; `empty` is a folder that becomes a store without artifacts."""
    experiment, _, scale = name.rpartition("/")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        module, bound, _ = open_experiment(compose("run", [f"experiment={experiment}", f"scale={scale}"]))
    table = module.find(bound, Store(empty), partial=True).table
    found = json.loads((RESULTS / name / "estimates.json").read_text(encoding="utf-8"))
    return Table(
        table.spec,
        {
            (cell["variant"], cell["task"], cell["metric"]): Cell(
                *(_estimate(cell[key]) for key in ("value", "difference", "to_baseline"))
            )
            for cell in found["cells"]
        },
        {variant: Verdict(**_contrast(told)) for variant, told in found["verdicts"].items()},
        {variant: Contrast(**_contrast(told)) for variant, told in found["against_baseline"].items()},
    )


def _estimate(found: dict[str, Any] | None) -> Any:
    return None if found is None else Estimate(**found)


def _contrast(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "composite": _estimate(found["composite"])}
