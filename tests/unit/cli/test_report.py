"""`airlab report`: the page is written whole or not at all, from a finished run or from what is published."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from airlab.cli import experiment as experiments
from airlab.cli import report
from airlab.reporting.findings import Findings
from airlab.reporting.lock import LOCK, read_lock
from airlab.reporting.pages import Page, Section
from airlab.schema.machine import Machine
from airlab.store.stage import Stage, Workdir
from tests.unit.cli.conftest import Airlab

RESULTS = Path(__file__).parents[3] / "results"
NAME = "attention_influence/main"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """One published folder without figures that take long."""
    source = RESULTS / "attention_influence" / "heads" / "laptop"
    shutil.copytree(source, tmp_path / "results" / "attention_influence" / "heads" / "laptop")
    return tmp_path / "results"


def test_the_page_of_all_tables_lies_in_docs_and_its_claims_are_printed(
    airlab: Airlab, results: Path
) -> None:
    answer = airlab("report", f"results={results}")
    assert answer.code == 0, answer.err
    assert "attention_influence/heads, scale laptop" in answer.out
    assert "No head of any checkpoint stands above chance" in answer.out
    assert answer.out.splitlines()[-1].startswith("the page: docs/report.html (")
    html = Path("docs/report.html").read_text()
    assert "are retrieval heads a property of the model or of the probes" in html
    assert [p.name for p in Path().rglob("*") if p.is_file()] == ["report.html"]
    again = airlab("report", f"results={results}", "output=docs/other.html")
    assert again.code == 0 and Path("docs/other.html").read_text() == html


def test_an_experiment_that_is_not_ours_has_its_place_for_a_title(airlab: Airlab, results: Path) -> None:
    (results / "attention_influence").rename(results / "<b>")
    answer = airlab("report", f"results={results}", "output=page.html")
    assert answer.code == 0, answer.err
    html = Path("page.html").read_text()
    assert "<h2>&lt;b&gt;/heads, scale laptop</h2>" in html and "<b>/" not in html


@pytest.mark.parametrize("output", ["page.htm", "nowhere/page.html"])
def test_a_page_that_could_not_be_written_is_refused(airlab: Airlab, results: Path, output: str) -> None:
    answer = airlab("report", f"results={results}", f"output={output}")
    assert answer.code == 2 and f"output={output}" in answer.sentence
    assert list(Path().iterdir()) == []


def test_a_file_of_somebody_elses_is_never_written_over(airlab: Airlab, results: Path) -> None:
    Path("index.html").write_text("<p>mine</p>")
    answer = airlab("report", f"results={results}", "output=index.html")
    assert answer.code == 2 and "no page of airlab report" in answer.sentence
    assert Path("index.html").read_text() == "<p>mine</p>"


@pytest.mark.parametrize("setting", ["scale=smoke", "texts=all", "seeds=[0]", "model.name=x"])
def test_a_setting_that_would_change_nothing_is_refused(airlab: Airlab, results: Path, setting: str) -> None:
    answer = airlab("report", f"results={results}", setting)
    assert answer.code == 2
    if setting != "model.name=x":  # which is refused for itself
        assert "would change nothing" in answer.sentence and "experiment=NAME" in answer.sentence
    assert list(Path().iterdir()) == []


def test_an_unfinished_run_is_one_sentence(airlab: Airlab, results: Path) -> None:
    answer = airlab("report", f"experiment={NAME}", "scale=smoke", f"results={results}")
    assert answer.code == 2 and answer.out == ""
    assert (
        f"not finished, first full_pool/seed-0; `airlab run experiment={NAME} scale=smoke`" in answer.sentence
    )
    assert list(Path().iterdir()) == [] and not (results / "attention_influence" / "main").exists()


@dataclass(frozen=True)
class Known(Stage):
    """A result that needs no work."""

    VERSION: ClassVar[int] = 1
    word: str

    def run(self, work: Workdir, machine: Machine) -> None:
        with work.writing("text") as temporary:
            temporary.write_text(self.word)


@dataclass
class Tiny:
    """What an experiment's module has, and how often its run was asked for."""

    __doc__ = "Tiny: is it so?\n\nHypothesis: it is."
    word: str = "a"
    Config: Any = None
    seen: list[str] = field(default_factory=list)

    def targets(self, config: Any) -> dict[str, Stage]:
        return {f"{self.word}/seed-0": Known(self.word)}

    def find(self, config: Any, store: Any, *, partial: bool = False) -> Findings:
        section = Section("Numbers", ("name", "value"), (("a", "0.5 [0.4, 0.6]"),))
        return Findings(
            pages=(Page("tiny", "A tiny page", (section,), (), ("name", "value"), (("a", "0.5"),)),)
        )

    def selections(self, config: Any, store: Any) -> dict[str, Any]:
        return {}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tiny:
    """An experiment of one stage in the place of the main one, writing below `mine`."""
    module = Tiny()

    def open_tiny(config: Any) -> tuple[Any, Any, Any]:
        command = experiments.RunCommand(
            machine=config["machine"],
            results=str(tmp_path / "mine"),
            folder="outputs",
            only=(),
            share=False,
            partial=False,
        )
        return module, SimpleNamespace(name=NAME, scale="smoke"), command

    monkeypatch.setattr(experiments, "open_plain", open_tiny)
    monkeypatch.setattr(report, "open_plain", open_tiny)
    return module


def test_after_any_run_the_page_and_its_figures_lie_beside_the_table(
    airlab: Airlab, tiny: Tiny, tmp_path: Path
) -> None:
    ran = airlab("run", f"experiment={NAME}", "scale=smoke")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-1].endswith("with what else was set, makes a page of it")
    answer = airlab("report", f"experiment={NAME}", "scale=smoke")
    assert answer.code == 0, answer.err
    folder = tmp_path / "mine" / NAME / "smoke"
    page = (folder / "report.html").read_text()
    assert 'href="tiny.csv">0.5 [0.4, 0.6]' in page and 'href="lock.json"' in page
    drawn = sorted(path.name for path in (folder / "figures").iterdir())
    assert drawn and {Path(name).suffix for name in drawn} == {".svg", ".png"}
    assert {Path(name).stem + ".png" for name in drawn} <= set(drawn)
    before = (folder / "report.html").read_bytes()
    assert airlab("report", f"experiment={NAME}", "scale=smoke").code == 0
    assert (folder / "report.html").read_bytes() == before


def test_a_table_of_another_configuration_is_not_shown_as_this_one(airlab: Airlab, tiny: Tiny) -> None:
    assert airlab("run", f"experiment={NAME}").code == 0
    tiny.word = "b"
    unfinished = airlab("report", f"experiment={NAME}")
    assert unfinished.code == 2 and "not finished" in unfinished.sentence
    experiments.open_store().make(Known("b"), Machine(processes=1))
    other = airlab("report", f"experiment={NAME}")
    assert other.code == 2 and "is not of this configuration" in other.sentence


def test_a_finished_run_without_its_table_is_told_how_to_get_it(
    airlab: Airlab, tiny: Tiny, tmp_path: Path
) -> None:
    assert airlab("run", f"experiment={NAME}").code == 0
    shutil.rmtree(tmp_path / "mine")
    answer = airlab("report", f"experiment={NAME}")
    assert answer.code == 2 and "`airlab table experiment=" in answer.sentence


def test_a_table_written_again_keeps_what_was_gathered_of_the_same_artifacts_alone(
    airlab: Airlab, tiny: Tiny, tmp_path: Path
) -> None:
    folder = tmp_path / "mine" / NAME / "smoke"
    assert airlab("run", f"experiment={NAME}", "scale=smoke").code == 0
    (folder / "figures.json").write_text("{}")
    assert airlab("table", f"experiment={NAME}", "scale=smoke").code == 0
    assert (folder / "figures.json").read_text() == "{}"
    tiny.word = "b"
    assert airlab("run", f"experiment={NAME}", "scale=smoke").code == 0
    assert set(read_lock(folder).cells) == {"b/seed-0"} and not (folder / "figures.json").exists()
    (folder / LOCK).write_text(json.dumps([]))
    assert airlab("table", f"experiment={NAME}", "scale=smoke").code == 0
