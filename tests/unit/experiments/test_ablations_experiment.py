"""The ablations: every variant changes one line, targets are shared by address, the page refuses holes."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from airlab.cli import experiment as commands
from airlab.cli.experiment import open_experiment, published_targets
from airlab.cli.main import configs_folder
from airlab.errors import UserError
from airlab.evaluation.records import Record, write_records
from airlab.randomness import generator
from airlab.reporting.pages import render_csv, render_page
from airlab.reporting.tables import IncompleteTable, judge
from airlab.stages.evaluate import Evaluate
from airlab.stages.score_units import ScoreUnits
from airlab.stages.select_units import SelectUnits
from airlab.store.fingerprint import fingerprint
from airlab.store.store import Store
from experiments.attention_influence import ablations, ablations_31m, comparison
from tests.unit.cli.conftest import airlab as airlab  # a command line in a folder of its own

NAME = "attention_influence/ablations"
VARIANTS = 14


def opened(*overrides: str) -> ablations.Config:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        return open_experiment(compose("run", [f"experiment={NAME}", *overrides]))[1]


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Dotted names and values of everything in a configuration."""
    if not isinstance(value, dict):
        return {key: value}
    return {name: leaf for k, v in value.items() for name, leaf in flat(v, f"{key}.{k}".lstrip(".")).items()}


def test_every_variant_of_the_plan_is_there_and_no_other() -> None:
    plan = (ablations.__doc__ or "").partition("Analysis plan")[0]
    named = set(re.findall(r"`([a-z]+-[a-z0-9-]+)`", plan))
    assert named == set(opened("scale=laptop").variants) and len(named) == VARIANTS
    assert "fifteen tests" in " ".join((ablations.__doc__ or "").split())


@pytest.mark.parametrize("scale", ["smoke", "laptop"])
def test_a_variant_changes_what_it_says_and_nothing_else(scale: str) -> None:
    config = opened(f"scale={scale}")
    default = flat(ablations.setting(config, "default").model_dump(mode="json"))
    base = flat(
        comparison.Comparison.model_dump(config, include=set(ablations.Setting.model_fields), mode="json")
    )
    assert default == base
    for name, changes in config.variants.items():
        varied = flat(ablations.setting(config, name).model_dump(mode="json"))
        differ = {key: varied[key] for key in varied if varied[key] != default[key]}
        assert differ == changes and len(changes) == 1, name


def test_the_papers_grid_is_covered() -> None:
    config = opened("scale=laptop")
    settings = [ablations.setting(config, name) for name in ("default", *config.variants)]
    assert {s.masking.share_of_heads for s in settings} == {0.01, 0.02, 0.05, 0.1, 0.2}
    assert {s.selecting.share for s in settings} == {0.1, 0.2, 0.3, 0.4, 0.5}
    assert {s.scoring.window_tokens for s in settings} == {256, 512, 2048}
    assert {s.masking.mode for s in settings} == {"uniform", "zero"}
    assert {s.selecting.scope for s in settings} == {"domain", "global"}
    assert {s.selecting.unit for s in settings} == {"documents", "tokens"}
    assert {s.mixture.kind for s in settings} == {"upsample", "subset_only"}


@pytest.mark.parametrize("scale", ["smoke", "laptop"])
def test_cells_of_one_setting_are_one_artifact_in_all_experiments(scale: str) -> None:
    own = published_targets(NAME, scale)
    assert len(set(own.values())) == len(own)
    for other in ("attention_influence/controls", "attention_influence/sweep"):
        theirs = published_targets(other, scale)
        for name in theirs:
            if name.partition("/")[0] in ("full_pool", "random", "attention_influence"):
                assert own[f"default/{name}"] == theirs[name]


def test_what_a_variant_does_not_touch_is_the_defaults() -> None:
    config = opened("scale=smoke", "seeds=[0]")
    default = cells_of(config, "default")
    for name, changes in config.variants.items():
        (group,) = {key.partition(".")[0] for key in changes}
        mine = cells_of(config, name)
        shared = {arm for arm in mine if mine[arm] == default[arm]}
        expected = {"full_pool", "random"} if group in ("masking", "scoring") else {"full_pool"}
        assert shared == expected, name


def cells_of(config: ablations.Config, name: str) -> dict[str, str]:
    return {cell.variant: fingerprint(cell.evaluation) for cell in ablations.variant_cells(config, name)}


def test_a_random_arm_that_looks_at_scores_is_the_variants_own() -> None:
    config = opened("scale=smoke", "selector@selectors.random=length_matched_random")
    assert cells_of(config, "zero-mask")["random"] != cells_of(config, "default")["random"]


def test_targets_are_all_cells_once_and_parts_are_whole() -> None:
    config = opened("scale=laptop")
    targets = ablations.targets(config)
    arms = Counter(name.split("/")[1] for name in targets)
    assert arms == {"full_pool": 3, "random": 24, "attention_influence": 45}
    parts = ablations.parts(config)
    assert list(parts) == ["default", *config.variants]
    assert all(len(part) == 9 for part in parts.values())
    of_parts = {fingerprint(stage) for part in parts.values() for stage in part.values()}
    assert of_parts == {fingerprint(stage) for stage in targets.values()}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "+variants.typo={masking.share_of_hats: 0.1}",
            "there is no setting masking.share_of_hats",
        ),
        ("+variants.typo={maskin.mode: zero}", "variant typo: there is no setting maskin.mode"),
        ("+variants.typo={masking.mode: none}", "variant typo: masking.mode"),
        ("+variants.typo={selecting.share: '0.3'}", "variant typo: selecting.share"),
        ("+variants.typo={selecting.share: 2}", "variant typo: selecting.share"),
        ("+variants.same={selecting.share: 0.2}", "variant same changes nothing"),
        ("+variants.default={selecting.share: 0.3}", "default is what the configuration says"),
        ("+variants.A_b={selecting.share: 0.3}", "variants.A_b"),
        ("~selectors.attention_influence", "selectors must have attention_influence"),
    ],
)
def test_a_variant_that_cannot_be_is_refused(override: str, told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        opened("scale=smoke", override)


def test_a_variant_may_change_the_selector_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    config = opened("scale=smoke", f"+variants.small={{model: {{kind: local, path: {tmp_path}}}}}")
    mine, default = cells_of(config, "small"), cells_of(config, "default")
    assert {arm for arm in mine if mine[arm] == default[arm]} == {"full_pool", "random"}
    own = opened("scale=smoke", "target.vocabulary=selector", "+variants.small={model.member: other.gguf}")
    mine, default = cells_of(own, "small"), cells_of(own, "default")
    assert set(mine.values()).isdisjoint(default.values()), "another tokenizer is another target"


GONE = ("heads-1", "heads-2", "heads-10", "share-10", "share-30", "share-40", "window-256", "window-512")
FEW = [f"~variants.{name}" for name in GONE]
LEFT = ("default", "heads-20", "zero-mask", "share-50", "global-scope", "share-of-tokens", "subset-only")
UNITS = 60


def fill(store: Store, config: ablations.Config, *names: str) -> None:
    """Made-up scores, selections and results; the scores of `zero-mask` are the default's, reversed."""

    def score(self: ScoreUnits, work: Any, machine: Any) -> None:
        units = [f"u{i:03d}" for i in range(UNITS)]
        sign = -1.0 if self.losses.masking.mode == "zero" else 1.0  # type: ignore[attr-defined]
        with work.writing("scores.parquet") as path:
            table = {"unit_id": units, "domain": ["a", "b"] * (UNITS // 2), "n_tokens": [10] * UNITS}
            pq.write_table(pa.table({**table, "score": sign * np.arange(UNITS, dtype=np.float64)}), path)

    def evaluate(self: Evaluate, work: Any, machine: Any) -> None:
        random = generator(0, fingerprint(self))
        records = [
            Record(task.name, "1", f"i{i}", None, self.seed, metric, float(random.normal()), metric in UP)
            for task in self.tasks.spec.planned()  # type: ignore[union-attr]
            for metric in task.metrics
            for i in range(6)
        ]
        with work.writing("records.parquet") as path:
            write_records(path, records, {})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScoreUnits, "run", score)
        patch.setattr(Evaluate, "run", evaluate)
        for name in names:
            for cell in ablations.variant_cells(config, name):
                selection = cell.evaluation.checkpoint.mixture.selection  # type: ignore[attr-defined]
                if isinstance(selection, SelectUnits):
                    for stage in (selection.scores, selection):
                        store.make(stage, commands.Machine())
                store.make(cell.evaluation, commands.Machine())


UP = ("acc", "acc_norm", "margin")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[ablations.Config, Store]:
    config = opened("scale=smoke", "seeds=[0,1,2]", *FEW)
    assert ("default", *config.variants) == LEFT
    store = Store(tmp_path_factory.mktemp("filled"))
    fill(store, config, *LEFT)
    return config, store


def test_the_page_shows_ranking_selection_and_worth_of_every_variant(filled: Any) -> None:
    config, store = filled
    found = ablations.find(config, store)
    (page,) = found.pages
    assert page.name == "ablations" and found.table is not None
    ranked = {row[0]: row[1:] for row in page.sections[0].rows}
    trained = {row[0]: row[1:] for row in page.sections[1].rows}
    assert tuple(ranked) == tuple(trained) == LEFT
    assert ranked["default"] == ("–", "–", "–", "–", "12", "120")
    assert ranked["zero-mask"][:4] == (
        'masking.mode="zero"', "-1.00 [-1.00, -1.00]", "-1.00 [-1.00, -1.00]", "0.00",
    )  # fmt: skip
    assert ranked["heads-20"][1:4] == ("+1.00 [+1.00, +1.00]", "+1.00 [+1.00, +1.00]", "1.00")
    assert ranked["share-50"] == ("selecting.share=0.5", "the same", "the same", "0.40", "30", "300")
    together = judge(
        {name: table_of(config, store, name).comparisons["attention_influence"] for name in LEFT}
    )
    for name, verdict in together.items():
        assert verdict is not None
        assert trained[name][0] == verdict.composite.text(3, sign=True)
        assert trained[name][1] == f"{verdict.p_holm:.3f}", "corrected over all variants"
        contrast = table_of(config, store, name).against_baseline["attention_influence"]
        assert contrast is not None and trained[name][4] == contrast.composite.text(3, sign=True)
    assert "over the 7 variants" in render_page(page) and "composite_to_full_pool" in render_csv(page)


def table_of(config: ablations.Config, store: Store, name: str) -> Any:
    """The variant's table by another way: as the comparison of its configuration where no arm is shared."""
    records = comparison.cell_records(ablations.variant_cells(config, name), store)
    return comparison.build_table(comparison.table_spec(ablations.setting(config, name)), records)


def test_a_variant_without_results_is_refused_by_name_or_marked(tmp_path: Path) -> None:
    config = opened("scale=smoke", *FEW)
    store = Store(tmp_path / "store")
    fill(store, config, *(name for name in LEFT if name not in ("heads-20", "share-50")))
    with pytest.raises(IncompleteTable, match=r"2 variants have no results: heads-20, share-50$"):
        ablations.find(config, store)
    (page,) = ablations.find(config, store, partial=True).pages
    missing = {row[0]: row[1:] for section in page.sections for row in section.rows if "missing" in row}
    assert set(missing) == {"heads-20", "share-50"}
    assert set(missing["share-50"]) == {"missing"}
    assert "Partial: heads-20, share-50 not finished" in render_page(page)


def test_a_failed_variant_is_named_and_takes_no_other_down(
    airlab: Callable[..., Any], tmp_path: Path
) -> None:
    """Two variants have something to do, and each finds something damaged; the second runs all the same."""
    config = opened("scale=smoke", *FEW)
    store = Store(tmp_path / "store")
    fill(store, config, *(name for name in LEFT if name not in ("heads-20", "share-50")))
    for name in ("heads-20", "share-50"):
        cell = next(c for c in ablations.variant_cells(config, name) if c.variant == "attention_influence")
        store.folder(cell.evaluation.checkpoint).mkdir(parents=True)  # damaged
    answer = airlab("run", f"experiment={NAME}", "scale=smoke", *FEW, "results=out", "folder=logs")
    assert answer.code == 2
    *_, first, second, last = answer.err.splitlines()
    assert (
        first.startswith("heads-20 ended with exit code 2: airlab run: ") and "logs/heads-20/log.txt" in first
    )
    assert second.startswith("share-50 ended with exit code 2") and "delete" in second
    assert last.startswith("airlab run: 2 of 2 jobs failed"), "finished variants need no process"
    assert {path.name for path in Path("logs").iterdir()} == {"heads-20", "share-50"}
    assert not Path("out").exists()
    shown = airlab(
        "run", f"experiment={NAME}", "scale=smoke", *FEW, "results=out", "folder=logs", "partial=true"
    )
    assert shown.code == 2 and "Partial: heads-20, share-50 not finished" in shown.out


def test_on_a_gpu_the_variants_are_those_of_its_plan_and_change_one_setting_each() -> None:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        name = "experiment=attention_influence/ablations_31m"
        config = open_experiment(compose("run", [name, "scale=h100"]))[1]
    plan = (ablations_31m.__doc__ or "").partition("Analysis plan")[0]
    assert set(re.findall(r"^- (?:`[a-z0-9-]+`, )*`[a-z0-9-]+`", plan, flags=re.MULTILINE))
    assert set(re.findall(r"`([a-z]+-[a-z0-9]+)`", plan)) == set(config.variants)
    assert all(len(changes) == 1 for changes in config.variants.values())
    assert "seven p-values" in (ablations_31m.__doc__ or "") and len(config.variants) == 6
    assert len(ablations_31m.targets(config)) == 33
    absolute = ablations.setting(config, "absolute-gap")
    assert type(absolute.selectors["attention_influence"]).__name__ == "LossGap"
