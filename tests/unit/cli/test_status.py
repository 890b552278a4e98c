"""`airlab status` on stores that a real plan filled: every state and every reason is named right.

The plan's stages are real, with their fields and addresses; what they write is a line each.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from airlab.cli import status
from airlab.cli.experiment import open_published
from airlab.schema.machine import Machine
from airlab.stages.evaluate import Evaluate
from airlab.stages.measure_losses import MeasureLosses
from airlab.stages.pretrain import Pretrain
from airlab.stages.shard_notes import NOTES, noted
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store
from airlab.text.documents import Shard
from tests.unit.cli.conftest import Airlab

MAIN, SCALE = "attention_influence/main", "smoke"


@dataclass(frozen=True)
class DrawCards(Stage):
    """Of a kind that no experiment asks for."""

    VERSION: ClassVar[int] = 1

    def run(self, work: Workdir, machine: Machine) -> None:
        work.path("cards").write_text("ace")


@pytest.fixture(scope="module")
def stages() -> tuple[Stage, ...]:
    module, bound = open_published(MAIN, SCALE)
    return Plan(Store(Path("none")), list(module.targets(bound).values())).order


@pytest.fixture(scope="module", autouse=True)
def _lines(stages: tuple[Stage, ...]) -> Iterator[None]:
    def run(self: Stage, work: Workdir, machine: Machine) -> None:
        with work.writing("line") as path:
            path.write_text(f"{self.name}\n")

    with pytest.MonkeyPatch.context() as patch:
        for kind in {type(stage) for stage in stages}:
            patch.setattr(kind, "run", run)
        yield


@pytest.fixture(scope="module")
def whole(stages: tuple[Stage, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds everything, to be copied."""
    root = tmp_path_factory.mktemp("whole")
    for stage in stages:
        Store(root).make(stage, Machine())
    return root


@pytest.fixture
def store(airlab: Airlab, tmp_path: Path) -> Store:
    """The one that the command opens."""
    return Store(tmp_path / "store")


@pytest.fixture
def filled(store: Store, whole: Path) -> Store:
    shutil.copytree(whole, store.root)
    return store


@pytest.fixture
def only_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold stores against one experiment at one scale: composing all of them takes seconds."""
    found = {"experiment": [MAIN], "scale": [SCALE]}
    monkeypatch.setattr(status, "choices", lambda _, group: found[group])


Lines = Callable[..., list[str]]


@pytest.fixture
def lines(airlab: Airlab) -> Lines:
    def call(*arguments: str) -> list[str]:
        answer = airlab("status", *arguments)
        assert (answer.code, answer.err) == (0, "")
        return answer.out.splitlines()

    return call


def about(told: list[str], begins: str) -> list[str]:
    return [line for line in told if line.startswith(begins)]


def one(stages: tuple[Stage, ...], kind: type[Stage]) -> Stage:
    return next(stage for stage in stages if isinstance(stage, kind))


def interrupted(store: Store, stage: Stage, leave: Callable[[Path], None]) -> None:
    """Let a stage write something and stop."""

    def run(self: Stage, work: Workdir, machine: Machine) -> None:
        leave(work.folder)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(stage), "run", run)
        store.make(stage, Machine())


@pytest.mark.usefixtures("only_main")
def test_what_is_asked_for_and_there_is_neither_stale_nor_orphaned(filled: Store, lines: Lines) -> None:
    told = lines()
    assert about(told, "finished: stage pretrain, there 7, asked for 7, stale 0, orphaned 0, damaged 0")
    assert not about(told, "stale: ") + about(told, "orphaned: ") + about(told, "damaged: ")
    assert about(told, f"{filled.root}: 40 finished and 0 unfinished artifacts")


def test_the_store_is_held_against_every_experiment(
    filled: Store, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = status.choices
    monkeypatch.setattr(
        status, "choices", lambda configs, group: [SCALE] if group == "scale" else every(configs, group)
    )
    filled.make(DrawCards(), Machine())  # what nobody asks for is compared with all there is
    told = lines()
    assert about(told, "finished: stage pretrain, there 7, asked for 7, stale 0")
    assert not about(told, "not compared")


@pytest.mark.usefixtures("only_main")
def test_what_nobody_asks_for_is_orphaned(filled: Store, lines: Lines) -> None:
    filled.make(DrawCards(), Machine())
    (line,) = about(lines(), "orphaned: ")
    assert line.startswith("orphaned: stage draw_cards, artifact ")


@pytest.mark.usefixtures("only_main")
def test_what_was_made_by_an_earlier_version_is_stale_and_so_is_what_was_made_from_it(
    filled: Store, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pretrain, "VERSION", 2)
    told = lines()
    trained, evaluated = about(told, "stale: stage pretrain"), about(told, "stale: stage evaluate")
    assert len(trained) == len(evaluated) == 7
    assert all(line.endswith(", why VERSION 1, now 2") for line in trained)
    assert all(", why an input is stale: checkpoint, pretrain " in line for line in evaluated)


@pytest.mark.usefixtures("only_main")
def test_what_was_made_anew_is_told(
    filled: Store, stages: tuple[Stage, ...], lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Evaluate, "VERSION", 2)
    module, bound = open_published(MAIN, SCALE)
    for stage in Plan(filled, list(module.targets(bound).values())).missing():
        filled.make(stage, Machine())
    stale = about(lines(), "stale: ")
    assert len(stale) == 7
    assert all(line.endswith("why VERSION 1, now 2; what is asked for now is there") for line in stale)


def test_a_changed_setting_is_named_with_both_values(filled: Store, lines: Lines) -> None:
    told = lines(f"scale={SCALE}", "training.learning_rate=0.5")
    assert about(told, "stages: stage pretrain, asked for 7, there 0, unfinished 0, missing 7")
    assert about(told, "stages: stage build_mixture, asked for 7, there 7")
    trained = about(told, "stale: stage pretrain")
    assert len(trained) == 7
    assert all(line.endswith("why training.learning_rate: 0.001 → 0.5") for line in trained)
    assert about(told, f"{MAIN}, scale {SCALE}: 40 stages, 26 there, 0 unfinished, 14 missing")
    assert about(told, f"14 other finished artifacts in {filled.root}")


def test_what_was_never_made_is_missing_and_nothing_is_stale(store: Store, lines: Lines) -> None:
    told = lines(f"scale={SCALE}")
    assert about(told, "stages: stage pretrain, asked for 7, there 0, unfinished 0, missing 7")
    assert not about(told, "stale: ")
    assert not store.root.exists()


@pytest.mark.usefixtures("only_main")
def test_an_unfinished_training_is_told_by_its_checkpoint(
    store: Store, stages: tuple[Stage, ...], lines: Lines
) -> None:
    def leave(folder: Path) -> None:
        (folder / "resume").mkdir()
        (folder / "resume" / "index.json").write_text(json.dumps({"n_steps_done": 3}))
        rows = [json.dumps({"step": step, "tokens": 1000 * (step + 1)}) + "\n" for step in range(5)]
        (folder / "curves.jsonl").write_text("".join(rows))

    stage = one(stages, Pretrain)
    assert isinstance(stage, Pretrain)
    interrupted(store, stage, leave)
    (line,) = about(lines(), "unfinished: ")
    budget = f"{stage.training.budget_tokens:,}"
    assert f"kept checkpoint after 3 updates, 3,000 of {budget} tokens, since 20" in line
    assert line.endswith("now nobody works on it; the same command continues it")
    assert about(lines(f"scale={SCALE}"), "unfinished: stage pretrain, artifact seed-0 ")


@pytest.mark.usefixtures("only_main")
def test_an_unfinished_pass_is_told_by_its_shards(
    store: Store, stages: tuple[Stage, ...], lines: Lines
) -> None:
    def leave(folder: Path) -> None:
        (folder / "shards").mkdir()
        for kind in ("losses", "skipped"):
            for first in (0, 256):
                (folder / "shards" / f"{kind}-{first:012d}-{first + 255:012d}.parquet").write_text("x")

    interrupted(store, one(stages, MeasureLosses), leave)
    (line,) = about(lines(), "unfinished: ")
    assert "kept 512 units in 4 files of shards, " in line


@pytest.mark.usefixtures("only_main")
def test_shards_of_several_workers_are_told_by_what_became_of_each(
    store: Store, stages: tuple[Stage, ...], lines: Lines
) -> None:
    """One measured, one failed, one in work far longer, one whose process is gone, two not begun."""

    def leave(folder: Path) -> None:
        for first in (0, 256, 512, 768):
            worker = f"task {first // 256} of 6"
            with suppress(ZeroDivisionError), noted(folder, Shard(first, 256, ()), 6, worker):
                if first == 0:
                    (folder / "shards" / "losses-000000000000-000000000255.parquet").write_text("x")
                if first == 256:
                    raise ZeroDivisionError("by\nnothing")
            note = folder / NOTES / f"{first:012d}.json"
            if first > 256:
                left = {"state": "running", "began": time.time() - 3600, "process": os.getpid()}
                left |= {"process": gone} if first == 768 else {}
                note.write_text(json.dumps(json.loads(note.read_text()) | left))

    ended = subprocess.Popen(["true"])
    ended.wait()
    gone = ended.pid
    interrupted(store, one(stages, MeasureLosses), leave)
    told = about(lines(), "shards: ")
    assert len(told) == 4
    assert ", units 256 to 511, state failed after " in told[0] and "ZeroDivisionError: by nothing" in told[0]
    assert f", worker task 1 of 6, process {os.getpid()} on " in told[0]
    assert ", units 512 to 767, state running for 1 h 00 min, much longer than others took" in told[1]
    assert ", units 768 to 1,023, state its process is gone; whoever goes on measures it again" in told[2]
    assert "units all, state 1 of 6 shards measured, half of them in 0.0 s or less; 2 not begun" in told[3]
    (line,) = about(lines(), "unfinished: ")
    assert "kept 256 units in 1 file of shards, since" in line


@pytest.mark.usefixtures("only_main")
def test_unfinished_work_that_nobody_asks_for_is_told(store: Store, lines: Lines) -> None:
    interrupted(store, DrawCards(), lambda folder: None)
    (line,) = about(lines(), "unfinished: ")
    assert "kept nothing yet, " in line
    assert line.endswith("now nobody works on it, and no experiment asks for it")


@pytest.mark.usefixtures("only_main")
def test_a_damaged_artifact_is_told_in_both_views(
    filled: Store, stages: tuple[Stage, ...], lines: Lines
) -> None:
    stage = one(stages, Pretrain)
    (filled.folder(stage) / "line").write_text("short")
    for told in (lines(), lines(f"scale={SCALE}")):
        (line,) = about(told, "damaged: ")
        assert line.startswith(f"damaged: stage pretrain, artifact {filled.folder(stage).name}, ")
        assert "its file line has 5 bytes instead of 9; delete that folder and run again" in line


@pytest.mark.usefixtures("only_main")
def test_looking_changes_nothing(filled: Store, lines: Lines) -> None:
    def contents() -> Iterator[tuple[str, int]]:
        return ((str(path), path.stat().st_mtime_ns) for path in sorted(filled.root.rglob("*")))

    before = list(contents())
    lines()
    lines(f"scale={SCALE}", "training.learning_rate=0.5")
    assert list(contents()) == before


def test_each_job_of_a_sweep_is_told(filled: Store, lines: Lines) -> None:
    told = lines("-m", f"scale={SCALE}", "training.learning_rate=0.001,0.5")
    assert about(told, "job 1 (training.learning_rate=0.5)")
    assert [line.partition(": ")[2] for line in about(told, f"{MAIN}, scale {SCALE}")] == [
        "40 stages, 40 there, 0 unfinished, 0 missing",
        "40 stages, 26 there, 0 unfinished, 14 missing",
    ]


def test_a_terminal_sees_tables(filled: Store, airlab: Airlab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    out = airlab("status", f"scale={SCALE}").out
    assert "│ pretrain" in out and "stages: stage" not in out


@pytest.mark.usefixtures("only_main")
def test_an_experiment_that_cannot_be_planned_is_told(
    filled: Store, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"experiment": [MAIN], "scale": ["tiny", SCALE]}
    monkeypatch.setattr(status, "choices", lambda _, group: found[group])
    (line,) = about(lines(), "not compared")
    assert line.startswith(f"not compared with {MAIN} at scale tiny: there is no scale 'tiny'")


def test_mistakes_are_one_sentence(airlab: Airlab) -> None:
    answer = airlab("status", "scale=tiny")
    assert answer.code == 2 and "there is no scale 'tiny'" in answer.sentence
