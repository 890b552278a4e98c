"""Why an artifact is not the one that is asked for: the field, the version, or the input is named."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from airlab.schema.base import Frozen
from airlab.schema.machine import Machine
from airlab.store.differences import Differences
from airlab.store.files import Files
from airlab.store.record import Record
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store


class Optimizer(Frozen):
    rate: float
    betas: tuple[float, ...] = (0.9, 0.95)


class Recipe(Frozen):
    optimizer: Optimizer
    layers: int = 2


class Share(Frozen):
    share: float


class Budget(Frozen):
    tokens: int


@dataclass(frozen=True)
class MakeCorpus(Stage):
    VERSION: ClassVar[int] = 1
    size: int

    def run(self, work: Workdir, machine: Machine) -> None:
        work.path("corpus").write_text(str(self.size))


@dataclass(frozen=True)
class ReadCorpus(Stage):
    VERSION: ClassVar[int] = 1
    files: Files

    def run(self, work: Workdir, machine: Machine) -> None:
        work.path("corpus").write_text("read")


@dataclass(frozen=True)
class ChooseSome(Stage):
    VERSION: ClassVar[int] = 1
    corpus: Stage
    how: Share | Budget

    def run(self, work: Workdir, machine: Machine) -> None:
        work.path("chosen").write_text("some")


@dataclass(frozen=True)
class TrainModel(Stage):
    VERSION: ClassVar[int] = 1
    chosen: Stage | None
    recipe: Recipe
    seed: int

    def run(self, work: Workdir, machine: Machine) -> None:
        work.path("model").write_text("weights")


def arm(
    share: float, seed: int = 0, size: int = 10, rate: float = 0.1, **more: Any
) -> tuple[MakeCorpus, ChooseSome, TrainModel]:
    corpus = MakeCorpus(size)
    chosen = ChooseSome(corpus, Share(share=share))
    return corpus, chosen, TrainModel(chosen, Recipe(optimizer=Optimizer(rate=rate), **more), seed)


Made = Callable[..., list[Record]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Make stages in a real store, inputs first; returns their records."""
    store = Store(tmp_path / "store")

    def make(*stages: Stage) -> list[Record]:
        for stage in stages:
            store.make(stage, Machine())
        return [record for stage in stages if (record := store.record(stage)) is not None]

    return make


def test_a_fields_old_and_new_value_are_told_with_its_path(made: Made) -> None:
    asked = arm(0.2, rate=0.3, layers=4)
    there = made(*arm(0.2))
    differences = Differences(there, asked)
    nearest = differences.nearest_asked(there[2])
    assert nearest is asked[2]
    assert differences.reasons(there[2], nearest) == (
        "recipe.layers: 2 → 4",
        "recipe.optimizer.rate: 0.1 → 0.3",
    )


def test_an_input_that_is_stale_is_told_as_that(made: Made) -> None:
    asked, there = arm(0.3), made(*arm(0.2))
    differences = Differences(there, asked)
    assert differences.reasons(there[1], asked[1]) == ("how.share: 0.2 → 0.3",)
    digits = there[1].fingerprint[:12]
    assert differences.reasons(there[2], asked[2]) == (f"an input is stale: chosen, choose_some {digits}",)


def test_a_version_is_told(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    there = made(*arm(0.2))
    monkeypatch.setattr(TrainModel, "VERSION", 3)
    asked = arm(0.2)
    assert Differences(there, asked).reasons(there[2], asked[2]) == ("VERSION 1, now 3",)


def test_each_arm_is_held_against_its_own_successor(made: Made) -> None:
    there = [record for share in (0.2, 0.3) for seed in (0, 1) for record in made(*arm(share, seed))]
    asked = [stage for share in (0.3, 0.2) for seed in (1, 0) for stage in arm(share, seed, size=11)]
    differences = Differences(there, asked)
    for record in there:
        nearest = differences.nearest_asked(record)
        assert nearest is not None
        if isinstance(nearest, TrainModel):
            assert nearest.seed == record.identity["fields"]["seed"]  # type: ignore[index, call-overload]
            assert len(differences.reasons(record, nearest)) == 1
        back = differences.nearest_there(nearest)
        assert back is not None and back.fingerprint == record.fingerprint


def test_what_is_made_from_another_kind_of_input_is_no_predecessor(made: Made, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text("mine")
    read = ReadCorpus(Files.of(own))
    chosen = ChooseSome(read, Share(share=0.2))
    there = made(read, chosen, TrainModel(chosen, Recipe(optimizer=Optimizer(rate=0.1)), 0))
    differences = Differences(there, arm(0.2))
    assert [differences.nearest_asked(record) for record in there] == [None, None, None]


def test_no_input_is_no_predecessor_of_one(made: Made) -> None:
    (there,) = made(TrainModel(None, Recipe(optimizer=Optimizer(rate=0.1)), 0))
    assert Differences([there], arm(0.2)).nearest_asked(there) is None


def test_files_are_told_by_their_content(made: Made, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    own.write_text("one")
    there = made(ReadCorpus(Files.of(own)))
    own.write_text("two")
    asked = ReadCorpus(Files.of(own))
    (reason,) = Differences(there, [asked]).reasons(there[0], asked)
    assert reason.startswith("files: the content of the files, ")


def test_a_value_of_another_class_is_told_whole(made: Made) -> None:
    corpus, chosen, _ = arm(0.2)
    there = made(corpus, chosen)
    asked = ChooseSome(corpus, Budget(tokens=5))
    assert Differences(there, [corpus, asked]).reasons(there[1], asked) == ("how: Share → Budget",)


def test_an_input_that_was_deleted_since_is_told(made: Made) -> None:
    _, chosen, model = made(*arm(0.2))
    asked = arm(0.2, size=11)
    (reason,) = Differences([model], asked).reasons(model, asked[2])
    assert reason.startswith(
        f"chosen: its choose_some {chosen.fingerprint[:12]} is not in the store any more"
    )


def test_another_input_that_is_asked_for_too_is_not_stale(made: Made) -> None:
    one, other = arm(0.2), arm(0.3)
    there = made(*one)
    (reason,) = Differences(there, [*one[:2], *other]).reasons(there[2], other[2])
    assert reason.startswith("chosen: choose_some ") and " → choose_some " in reason


def test_a_field_that_is_new_or_gone_is_told(made: Made) -> None:
    there = made(*arm(0.2))
    changed = dict(there[0].identity["fields"])  # type: ignore[call-overload]
    changed["colour"] = "red"
    del changed["size"]
    old = there[0].model_copy(
        update={"identity": {**there[0].identity, "fields": changed}, "fingerprint": "0" * 64}
    )
    asked = MakeCorpus(10)
    assert set(Differences([old], [asked]).reasons(old, asked)) == {
        'colour: "red" → nothing',
        "size: nothing → 10",
    }
