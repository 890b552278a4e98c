"""The README's selector is 15 lines, and adding it takes what is printed there and nothing else."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import airlab.selection.selectors as package
from airlab.errors import UserError
from airlab.selection.selectors import known_selectors, make_selector
from airlab.selection.selectors.base import SelectorBase
from airlab.selection.units import Units
from tests.unit.selection.made_units import COLUMNS, CONFIGS, configured, make_units, scored, taken

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## Add a selector")[1].split("\n## ")[0]
CODE, CONFIG = (re.findall(rf"```{kind}\n(.*?)```", SECTION, re.S)[0] for kind in ("python", "yaml"))
COMMAND = re.findall(r"^airlab run (.*surprise.*)$", SECTION, re.M)[0].split()


def place(printed: str) -> str:
    """Where a printed file belongs, as its first line says."""
    return printed.splitlines()[0].removeprefix("# ")


def listed() -> list[tuple[str, str]]:
    """Names in the README's table of selectors, each with what its row asks for."""
    table = README.split("\n## Selectors\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    return [(name, row[-1].strip()) for row in rows for name in re.findall(r"`([^`]+)`", row[0])]


def test_the_readmes_table_names_every_selector_once_and_no_other() -> None:
    named = [name for name, _ in listed()]
    twice = sorted({name for name in named if named.count(name) > 1})
    assert not twice, f"README.md names {', '.join(twice)} in two rows of its table of selectors"
    missing, unknown = sorted(configured().keys() - set(named)), sorted(set(named) - configured().keys())
    assert not missing, f"README.md's table of selectors lacks a row for {', '.join(missing)}"
    assert not unknown, f"README.md's table has {', '.join(unknown)}, which is not in configs/selector/"


def test_what_asks_for_nothing_works_on_a_table_of_scores_and_nothing_else_does() -> None:
    u = make_units()
    bare = Units(*(getattr(u, column) for column in COLUMNS))
    for name, asks in listed():
        try:
            configured()[name].score(bare, 0)
        except UserError as error:
            assert asks, f"README.md says that {name} asks for nothing, but: {error}"
        else:
            assert not asks, f"README.md says that {name} asks for {asks}, but it scores without"


@pytest.fixture
def surprise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SelectorBase:
    (tmp_path / Path(place(CODE)).name).write_text(CODE)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    assert "surprise" in known_selectors()
    return make_selector({"kind": "surprise"})


def test_the_example_is_fifteen_lines() -> None:
    assert len(CODE.splitlines()) + len(CONFIG.splitlines()[1:]) <= 15


def test_the_readmes_selector_works_as_shown(surprise: SelectorBase) -> None:
    u = make_units()
    scores = scored(surprise, u)
    np.testing.assert_allclose(scores, (u.loss_sum_base - u.entropy_sum_base) / u.n_tokens)
    order = np.random.default_rng(0).permutation(len(u))
    np.testing.assert_array_equal(scored(surprise, taken(u, order)), scores[order])


def test_the_two_files_and_the_command_are_all_it_takes(tmp_path: Path) -> None:
    """In a copy of the checkout, with the files written where they say; planned instead of run."""
    for folder in ("airlab", "experiments", "configs", "benchmarks/results"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for printed in (CODE, CONFIG):
        (tmp_path / place(printed)).write_text(printed)
    done = subprocess.run(
        [sys.executable, "-c", "from airlab.cli.main import main; main()", "plan", *COMMAND],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PATH": "", "HOME": str(tmp_path), "COLUMNS": "200", "AIRLAB_STORE": str(tmp_path / "store")},
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"score_units\W+surprise", done.stdout)) == 3, "one for each seed"


def test_the_readme_counts_the_files_there_are() -> None:
    assert f"has {len(list(CONFIGS.glob('*.yaml')))} to start from" in SECTION
