"""The audit of `continued`'s streams: its cells are that table's, each beside its own stream."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from airlab.cli.experiment import open_experiment
from airlab.cli.main import configs_folder
from airlab.errors import UserError
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.store import Store
from experiments.attention_influence import continued, coverage_audit


def test_every_cell_of_continued_is_audited_with_the_stream_it_was_trained_on(tmp_path: Path) -> None:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        audited, published = (
            open_experiment(compose("run", [f"experiment=attention_influence/{name}", "scale=h100"]))[1]
            for name in ("coverage_audit", "continued")
        )
    expected = {name: fingerprint(stage) for name, stage in continued.targets(published).items()}
    found = coverage_audit.targets(audited)
    cells = {name: fingerprint(stage) for name, stage in found.items() if not name.startswith("coverage/")}
    assert cells == {name: one for name, one in expected.items() if not name.startswith("base/")}
    for name in cells:
        order = Plan(Store(tmp_path / "store"), [found[name]]).order
        streams = {fingerprint(stage) for stage in order if stage.name == "build_mixture"}
        assert fingerprint(found[f"coverage/{name}"].mixture) in streams


def test_a_corpus_without_held_out_text_is_refused() -> None:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        name = "attention_influence/coverage_audit"
        config = open_experiment(compose("run", [f"experiment={name}", "scale=paper"]))[1]
    with pytest.raises(UserError, match="only the pool has"):
        coverage_audit.targets(config)
