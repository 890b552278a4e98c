"""Selectors with needs get exactly what they asked for; the others keep the address they always had."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airlab.errors import UserError
from airlab.heads.ranking import HeadRanking, RankedHead, write_ranking
from airlab.models.load import weights_digest
from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.schema.scoring import Scoring
from airlab.schema.selection import Selecting
from airlab.selection.selectors import make_selector
from airlab.stages.audit_selectors import AuditSelectors
from airlab.stages.classify_documents import ClassifyDocuments
from airlab.stages.control_heads import ControlHeads, LastHead
from airlab.stages.measure_losses import MeasureLosses
from airlab.stages.measure_text import MeasureText
from airlab.stages.score_measured_units import ScoreMeasuredUnits, score_stage
from airlab.stages.score_units import ScoreUnits
from airlab.store.files import Files
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store
from airlab.text.documents import Document, write_documents
from tests.unit.cli.model_folders import random_folder
from tests.unit.selection.made_units import configured
from tests.unit.selection.test_classifier import small_classifier

MACHINE = Machine(tokens_per_batch=256)
SELECTORS = configured()


@dataclass(frozen=True)
class TextsForTests(Stage):
    """Documents of words; every fourth repeats itself."""

    VERSION: ClassVar[int] = 1
    count: int = 12

    def run(self, work: Workdir, machine: Machine) -> None:
        draw = np.random.default_rng(0)
        words = ["river", "stone", "music", "winter", "garden", "letter"]

        def rows():
            for i in range(self.count):
                found = draw.choice(words, draw.integers(6, 30)).tolist()
                text = " ".join(found[:5] * 4 if i % 4 == 0 else found)
                yield Document(f"doc-{i:02d}", "prose" if i % 2 else "code", text)

        with work.writing("documents.parquet") as path:
            write_documents(path, rows())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_folder(tmp_path_factory.mktemp("model") / "base")


@pytest.fixture
def losses(tmp_path: Path, model: Path) -> MeasureLosses:
    """A small model with a ranking of its heads: the best two of twelve are [0, 1] and [2, 3]."""
    score = np.linspace(0.1, 0.3, 12).reshape(3, 4)
    score[0, 1], score[2, 3] = 0.9, 0.8
    ordered = sorted(np.ndindex(3, 4), key=lambda place: -score[place])
    heads = tuple(RankedHead(layer, head, *[float(score[layer, head])] * 4) for layer, head in ordered)
    ranking = HeadRanking(
        model_digest=weights_digest(model),
        layers=3,
        heads_per_layer=4,
        probes=6,
        answer_accuracy=0.9,
        chance=0.001,
        split_half_spearman=1.0,
        heads=heads,
    )
    write_ranking(tmp_path / "heads.json", ranking)
    return MeasureLosses(
        Files.of(model),
        Files.of(tmp_path / "heads.json"),
        Masking(share_of_heads=0.15),
        TextsForTests(),
        Scoring(window_tokens=512),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def run(store: Store, *stages: Stage) -> list[Path]:
    Plan(store, stages).run(MACHINE)
    return [store.folder(stage) for stage in stages]


def scores_of(folder: Path) -> dict[str, float]:
    table = pq.read_table(folder / "scores.parquet")
    return dict(zip(table["unit_id"].to_pylist(), table["score"].to_pylist(), strict=True))


def influence_of(folder: Path) -> dict[str, float]:
    rows = pq.read_table(folder / "losses.parquet").to_pylist()
    return {r["unit_id"]: (r["loss_sum_ref"] - r["loss_sum_base"]) / r["loss_sum_base"] for r in rows}


PLAIN = ("attention_influence", "random", "length", "entropy", "loss_high", "loss_low", "loss_band", "dsir")


@pytest.mark.parametrize("name", PLAIN)
def test_selectors_without_needs_keep_the_address_they_had(losses: MeasureLosses, name: str) -> None:
    plain = ScoreUnits(losses, losses.corpus, SELECTORS[name], 3)
    assert score_stage(losses, SELECTORS[name], 3, {}) == plain


@pytest.mark.parametrize("name", sorted(SELECTORS.keys() - {"curated"}))
def test_every_configured_selector_plans(losses: MeasureLosses, store: Store, name: str) -> None:
    stage = score_stage(losses, SELECTORS[name], 0, SELECTORS)
    assert len(fingerprint(stage)) == 64 and stage.slug() == SELECTORS[name].kind
    Plan(store, [stage]).explain()
    needs = SELECTORS[name].needs()
    assert len(needs) == (len(stage.measurements) if isinstance(stage, ScoreMeasuredUnits) else 0)


def test_documents_have_no_curators(losses: MeasureLosses) -> None:
    with pytest.raises(UserError, match="which documents do not have: it is for traces"):
        score_stage(losses, SELECTORS["curated"], 0, {})


def test_texts_are_measured_once_for_all_seeds_and_selectors(losses: MeasureLosses, store: Store) -> None:
    names = ("compression_high", "compression_low", "repetition_high", "attention_influence_residual")
    stages = [score_stage(losses, SELECTORS[name], seed, {}) for name in names for seed in (0, 1)]
    order = [stage.name for stage in Plan(store, stages).order]
    assert order.count("measure_text") == order.count("measure_losses") == 1


def test_parts_are_the_arms_of_that_name_before_kinds(losses: MeasureLosses) -> None:
    selector = make_selector({"kind": "rank_sum", "of": ["mine", "entropy"]})
    mine = make_selector({"kind": "loss_band", "centre": 0.25})
    stage = score_stage(losses, selector, 5, {"mine": mine})
    assert isinstance(stage, ScoreMeasuredUnits)
    assert [part.selector for part in stage.measurements] == [mine, make_selector({"kind": "entropy"})]
    assert [part.seed for part in stage.measurements] == [5, 5]
    moved = score_stage(losses, selector, 5, {"mine": make_selector({"kind": "loss_band", "centre": 0.3})})
    assert fingerprint(moved) != fingerprint(stage), "what a name stands for is identity"


def test_parts_that_do_not_exist_or_build_on_others_are_refused(losses: MeasureLosses) -> None:
    for name, words in (("nobody", "no selector 'nobody'"), ("deduplicated", "builds on others itself")):
        selector = make_selector({"kind": "rank_sum", "of": ["entropy", name]})
        with pytest.raises(UserError, match=words):
            score_stage(losses, selector, 0, {})
    itself = make_selector({"kind": "rank_sum", "of": ["entropy", "both"]})
    with pytest.raises(UserError, match="builds on others itself"):
        score_stage(losses, itself, 0, {"both": itself})


def test_control_masks_measure_what_they_say(losses: MeasureLosses, store: Store) -> None:
    """Zeroed retrieval heads, and other heads of the same layers: against losses measured by hand."""
    random, zero = (score_stage(losses, SELECTORS[name], 0, {}) for name in ("random_heads", "zero_mask"))
    assert isinstance(random, ScoreMeasuredUnits) and isinstance(zero, ScoreMeasuredUnits)
    by_hand = replace(losses, masking=Masking(share_of_heads=0.15, mode="zero"))
    folders = run(store, losses, random, zero, by_hand)
    main, drawn, zeroed = influence_of(folders[0]), scores_of(folders[1]), scores_of(folders[2])
    assert zeroed == influence_of(folders[3])
    assert drawn == influence_of(store.folder(random.losses))
    assert len({main["doc-00"], drawn["doc-00"], zeroed["doc-00"]}) == 3
    heads = json.loads((store.folder(random.losses.heads) / "heads.json").read_text())
    assert [layer for layer, _ in heads] == [0, 2] and not {(0, 1), (2, 3)} & {tuple(h) for h in heads}
    base = [
        pq.read_table(store.folder(s) / "losses.parquet")["loss_sum_base"].to_numpy()
        for s in (losses, random.losses, zero.losses)
    ]
    np.testing.assert_allclose(base[1], base[0], rtol=1e-6)
    np.testing.assert_allclose(base[2], base[0], rtol=1e-6)


def test_a_plain_list_of_heads_has_no_controls(tmp_path: Path, losses: MeasureLosses, store: Store) -> None:
    (tmp_path / "list.json").write_text("[[0, 1]]")
    listed = replace(losses, heads=Files.of(tmp_path / "list.json"))
    with pytest.raises(UserError, match="not a head ranking"):
        run(store, score_stage(listed, SELECTORS["random_heads"], 0, {}))
    assert ControlHeads(listed.heads, 0.05, 0).slug() == "draw-0"


def test_a_second_model_is_compared_on_its_own_losses(
    tmp_path: Path, losses: MeasureLosses, store: Store
) -> None:
    other = Files.of(random_folder(tmp_path / "other", seed=5))
    second = replace(losses, model=other, heads=LastHead(other), masking=Masking())
    selector = SELECTORS["two_model_gap"]
    stage = ScoreMeasuredUnits(losses, losses.corpus, selector, 0, (second,))
    planned = score_stage(losses, selector, 0, {})
    assert isinstance(planned, ScoreMeasuredUnits)
    assert replace(planned.measurements[0], model=other, heads=LastHead(other)) == second
    _, folder = run(store, losses, stage)
    rows = [pq.read_table(store.folder(s) / "losses.parquet").to_pylist() for s in (losses, second)]
    expected = {
        a["unit_id"]: (a["loss_sum_base"] - b["loss_sum_base"]) / a["n_tokens"]
        for a, b in zip(*rows, strict=True)
    }
    assert scores_of(folder) == pytest.approx(expected)


def test_a_local_classifier_scores_documents(tmp_path: Path, losses: MeasureLosses, store: Store) -> None:
    model = Files.of(small_classifier(tmp_path / "classifier"))
    classified = ClassifyDocuments(model, None, 16, losses.corpus)
    selector = SELECTORS["fineweb_edu"]
    stage = ScoreMeasuredUnits(losses, losses.corpus, selector, 0, (classified,))
    folder, own = run(store, stage, classified)
    assert scores_of(folder) == scores_of(own) and len(set(scores_of(own).values())) > 4
    assert sorted(p.name for p in own.iterdir()) == ["record.json", "scores.parquet"]


def test_a_unit_that_was_not_measured_is_named(losses: MeasureLosses, store: Store) -> None:
    stage = ScoreMeasuredUnits(
        losses, losses.corpus, SELECTORS["repetition_high"], 0, (MeasureText(TextsForTests(11)),)
    )
    with pytest.raises(UserError, match="the first is doc-11"):
        run(store, stage)


def test_a_score_that_is_no_number_is_refused_by_name(losses: MeasureLosses, store: Store) -> None:
    @dataclass(frozen=True)
    class BrokenScores(Stage):
        VERSION: ClassVar[int] = 1

        def run(self, work: Workdir, machine: Machine) -> None:
            ids = [f"doc-{i:02d}" for i in range(12)]
            with work.writing("scores.parquet") as path:
                pq.write_table(pa.table({"unit_id": ids, "score": [0.5] * 11 + [float("nan")]}), path)

    stage = ScoreMeasuredUnits(losses, losses.corpus, SELECTORS["fineweb_edu"], 0, (BrokenScores(),))
    with pytest.raises(UserError, match="selector classifier gave a score"):
        run(store, stage)


def test_the_audit_of_finished_scores(losses: MeasureLosses, store: Store) -> None:
    names = ("attention_influence", "length", "repetition_high", "influence_low", "influence_deduplicated")
    scores = tuple(score_stage(losses, SELECTORS[name], 0, SELECTORS) for name in names)
    (folder,) = run(
        store, AuditSelectors(losses, MeasureText(losses.corpus), names, scores, Selecting(share=0.5), 20)
    )
    found = json.loads((folder / "audit.json").read_text())
    assert found["n_units"] == 12
    spearman = {(a["selector"], a["confound"]): a["spearman"] for a in found["associations"]}
    assert len(spearman) == 5 * 4
    assert spearman["length", "length"] == pytest.approx(1)
    assert spearman["repetition_high", "repetition"] == pytest.approx(1)
    for confound in ("length", "repetition", "compression_ratio", "base_loss"):
        one, other = (spearman[name, confound] for name in ("attention_influence", "influence_low"))
        assert one == pytest.approx(-other)
    assert len(found["intervals"]) == 5 * 4 * 3
    overlap = {(o["first"], o["second"]): o["jaccard"] for o in found["overlaps"]}
    assert overlap["attention_influence", "influence_low"] == 0
