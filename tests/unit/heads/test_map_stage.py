"""The map stage measures what the detection stage measures, probe by probe."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from airlab.errors import UserError
from airlab.heads.maps import read_map
from airlab.heads.ranking import read_ranking
from airlab.schema.heads import Detection, Probes
from airlab.schema.machine import Machine
from airlab.stages.detect_heads import DetectHeads, probe_results
from airlab.stages.map_heads import MapHeads
from airlab.store.files import Files
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store
from airlab.text.documents import Document, write_documents
from tests.unit.cli.conftest import WORDS
from tests.unit.cli.model_folders import planted_folder, random_folder
from tests.unit.heads.test_planted_head import PLANTED

PROBES = Probes(count=18, max_tokens=560, demonstrations=1, max_value_tokens=40)


@dataclass(frozen=True)
class NaturalSentences(Stage):
    VERSION: ClassVar[int] = 1

    def run(self, work: Workdir, machine: Machine) -> None:
        draw = np.random.default_rng(0)
        with work.writing("documents.parquet") as path:
            write_documents(
                path,
                [Document(f"d{n}", "prose", f"The {' '.join(draw.choice(WORDS, 4))}.") for n in range(99)],
            )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files.of(random_folder(tmp_path_factory.mktemp("models") / "random"))


def stages(model: Files) -> tuple[DetectHeads, MapHeads]:
    parts = (model, NaturalSentences(), PROBES, Detection())
    return DetectHeads(*parts), MapHeads(*parts)


def test_a_map_has_the_scores_of_the_ranking_and_shows_the_planted_head(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    detect, mapping = stages(Files.of(planted_folder(tmp_path / "planted")))
    Plan(store, [detect]).run(Machine())
    Plan(store, [mapping]).run(Machine(tokens_per_batch=900))
    ranking = read_ranking(store.folder(detect) / "heads.json")
    found = read_map(store.folder(mapping) / "map.json")
    for head in ranking.heads:
        assert found.score[head.layer][head.head] == head.retrieval_score
        assert found.stderr[head.layer][head.head] == head.stderr
    assert found.best == PLANTED == (ranking.heads[0].layer, ranking.heads[0].head)
    assert found.above_chance[PLANTED[0]][PLANTED[1]]
    assert (found.model_digest, found.answer_accuracy) == (ranking.model_digest, ranking.answer_accuracy)
    one, other = (probe_results(store.folder(stage)) for stage in (detect, mapping))
    assert len(one) == len(other) == PROBES.count
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.recall, b.recall)


def test_what_detection_refuses_is_mapped(tmp_path: Path, model: Files) -> None:
    store = Store(tmp_path / "store")
    detect, mapping = stages(model)
    with pytest.raises(UserError, match="no head of this model copies above chance"):
        Plan(store, [detect]).run(Machine())
    Plan(store, [mapping]).run(Machine())
    assert read_map(store.folder(mapping) / "map.json").probes == PROBES.count


def test_a_map_goes_on_after_the_probes_that_were_saved(
    tmp_path: Path, model: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = Store(tmp_path / "whole"), Store(tmp_path / "stopped")
    mapping = stages(model)[1]
    Plan(whole, [mapping]).run(Machine())
    writing = Workdir.writing

    def stop_at_the_map(work: Workdir, name: str):  # type: ignore[no-untyped-def]
        if name == "probes/000016.npz":
            raise KeyboardInterrupt
        return writing(work, name)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Workdir, "writing", stop_at_the_map)
        Plan(stopped, [mapping]).run(Machine())
    assert [path.name for path in stopped.part(mapping).glob("probes/*.npz")] == ["000000.npz"]
    Plan(stopped, [mapping]).run(Machine())
    assert read_map(stopped.folder(mapping) / "map.json") == read_map(whole.folder(mapping) / "map.json")
