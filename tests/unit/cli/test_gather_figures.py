"""What is gathered for figures is what the artifacts hold, and nothing that should not be published."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from scipy.stats import spearmanr

from airlab.cli.experiment import open_experiment
from airlab.cli.gather_figures import CURVE_POINTS, POINTS, gather_figures, write_gathered
from airlab.cli.main import configs_folder
from airlab.heads.ranking import HeadRanking, RankedHead, write_ranking
from airlab.reporting.figures.results import GATHERED
from airlab.schema.machine import Machine
from airlab.stages.build_pool import BuildPool
from airlab.stages.build_traces import BuildTraces
from airlab.stages.detect_heads import DetectHeads
from airlab.stages.fine_tune import FineTune
from airlab.stages.measure_losses import MeasureLosses
from airlab.stages.measure_steps import MeasureSteps
from airlab.stages.pretrain import Pretrain
from airlab.stages.score_traces import ScoreTraces
from airlab.stages.score_units import ScoreUnits
from airlab.stages.select_units import SelectUnits
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store

MASKED = [[0, 1], [2, 0]]
SECRET = "the text of a document"
UPDATES = 3 * CURVE_POINTS


def units(count: int) -> list[dict[str, Any]]:
    """Documents whose influence grows with their length."""
    draw = np.random.default_rng(0)
    return [
        {
            "unit_id": f"private-name-{i:04d}",
            "parent_id": f"private-name-{i:04d}",
            "domain": "code" if i % 3 else "prose",
            "n_tokens": 10 + i,
            "loss_sum_base": (10 + i) * (1 + float(draw.random())),
            "loss_sum_ref": (10 + i) * (3 + i / 10),
            "entropy_sum_base": 1.0,
        }
        for i in range(count)
    ]


def write_table(work: Workdir, name: str, rows: list[dict[str, Any]]) -> None:
    with work.writing(name) as path:
        pq.write_table(pa.Table.from_pylist(rows), path)


def made(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Stages that leave what real ones leave, in no time."""

    def corpus(name: str, column: str) -> Any:
        rows = [
            {"unit_id": row["unit_id"], column: f"{SECRET} " * (1 + i % 5)}
            for i, row in enumerate(units(count))
        ]
        return lambda self, work, machine: write_table(work, name, rows)

    def heads(self: Stage, work: Workdir, machine: Machine) -> None:
        grid = np.arange(12).reshape(3, 4) / 20
        order = sorted(np.ndindex(3, 4), key=lambda place: -grid[place])
        ranked = tuple(RankedHead(layer, head, *[float(grid[layer, head])] * 4) for layer, head in order)
        with work.writing("heads.json") as path:
            write_ranking(path, HeadRanking("0" * 64, 3, 4, 48, 0.9, 0.01, 0.8, ranked))

    def losses(self: Stage, work: Workdir, machine: Machine) -> None:
        write_table(work, "losses.parquet", units(count))
        work.note(masked_heads=MASKED)

    def scores(self: Stage, work: Workdir, machine: Machine) -> None:
        rows = [
            {name: row[name] for name in ("unit_id", "parent_id", "domain", "n_tokens")}
            | {"score": row["n_tokens"] / 7}
            for row in units(count)
        ]
        write_table(work, "scores.parquet", rows)

    def training(self: Any, work: Workdir, machine: Machine) -> None:
        rows = [{"step": i, "tokens": 64 * (i + 1), "loss": 8 - i / 100 + self.seed} for i in range(UPDATES)]
        with work.writing("curves.jsonl") as path:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    for stage, run in {
        BuildPool: corpus("documents.parquet", "text"),
        BuildTraces: corpus("traces.parquet", "response"),
        DetectHeads: heads,
        MeasureLosses: losses,
        MeasureSteps: losses,
        ScoreUnits: scores,
        ScoreTraces: scores,
        Pretrain: training,
        FineTune: training,
    }.items():
        monkeypatch.setattr(stage, "run", run)


KINDS = (
    BuildPool,
    BuildTraces,
    DetectHeads,
    MeasureLosses,
    MeasureSteps,
    ScoreUnits,
    ScoreTraces,
    SelectUnits,
    Pretrain,
    FineTune,
)


def finished(tmp_path: Path, name: str) -> tuple[Mapping[str, Stage], Store]:
    """An experiment's targets, and a store with what figures look at."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        module, bound, _ = open_experiment(compose("run", [f"experiment={name}", "scale=smoke"]))
    targets, store = module.targets(bound), Store(tmp_path / "store")
    for stage in Plan(store, list(targets.values())).order:
        if isinstance(stage, KINDS):
            store.make(stage, Machine())
    return targets, store


@pytest.mark.parametrize("name", ["attention_influence/main", "air/main"])
def test_every_part_is_what_the_artifacts_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made(monkeypatch, 60)
    targets, store = finished(tmp_path, name)
    found = gather_figures(targets, store)
    (heads,) = found["head_maps"]
    assert heads["scores"] == (np.arange(12).reshape(3, 4) / 20).tolist()
    assert heads["masked"] == MASKED and heads["chance"] == 0.01

    scores = found["scores"]
    assert [domain["domain"] for domain in scores["domains"]] == ["code", "prose"]
    assert [domain["n"] for domain in scores["domains"]] == [40, 20]
    assert all(sum(domain["counts"]) == domain["n"] for domain in scores["domains"])
    for domain in scores["domains"]:
        assert domain["selected"] > 0
        assert domain["quantiles"][0] < domain["lowest_selected"] <= scores["edges"][-1]

    confounds = found["confounds"]
    assert confounds["shown"] == confounds["units"] == 60
    assert confounds["correlations"]["length"]["spearman"] == 1.0
    expected = spearmanr(confounds["score"], confounds["base_loss"]).statistic
    assert confounds["correlations"]["base_loss"]["spearman"] == pytest.approx(expected, abs=1e-4)

    trained = {fingerprint(s) for s in Plan(store, list(targets.values())).order if hasattr(s, "seed")}
    for curve in found["curves"]:
        assert curve["fingerprint"] in trained and f"{curve['name']}/seed-{curve['seed']}" in targets
        assert len(curve["loss"]) == len(curve["tokens"]) == CURVE_POINTS
        assert curve["tokens"][-1] == 64 * UPDATES
        # Three updates a point, so the mean over points is that over updates.
        assert np.mean(curve["loss"]) == pytest.approx(8 - (UPDATES - 1) / 200 + curve["seed"], abs=1e-3)
    arms = {key.rpartition("/seed-")[0] for key in targets} - {"base"}
    assert {curve["name"] for curve in found["curves"]} == arms


def test_no_text_no_id_and_no_path_is_gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(monkeypatch, 60)
    targets, store = finished(tmp_path, "attention_influence/main")
    write_gathered(tmp_path, gather_figures(targets, store))
    text = (tmp_path / GATHERED).read_text()
    assert (
        "private-name" not in text and SECRET not in text and "/" not in text.replace("airlab-figures/1", "")
    )


def test_the_bytes_are_the_same_each_time_and_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(monkeypatch, 60)
    targets, store = finished(tmp_path, "attention_influence/main")
    found = gather_figures(targets, store)
    write_gathered(tmp_path, found)
    first = (tmp_path / GATHERED).read_bytes()
    write_gathered(tmp_path, gather_figures(targets, store))
    assert (tmp_path / GATHERED).read_bytes() == first
    assert json.loads(first) == {"format": "airlab-figures/1", **found}


def test_of_many_units_some_are_shown_and_all_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(monkeypatch, POINTS + 200)
    found = gather_figures(*finished(tmp_path, "attention_influence/main"))
    assert found["confounds"]["shown"] == len(found["confounds"]["score"]) == POINTS
    assert found["confounds"]["units"] == POINTS + 200
    assert sum(domain["n"] for domain in found["scores"]["domains"]) == POINTS + 200
    # Not the first ones: what is shown has nothing to do with where a document stands.
    assert max(found["confounds"]["length"]) > POINTS + 100


def test_what_is_gone_is_left_out(tmp_path: Path) -> None:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        module, bound, _ = open_experiment(compose("run", ["experiment=attention_influence/main"]))
    assert gather_figures(module.targets(bound), Store(tmp_path / "store")) == {}
