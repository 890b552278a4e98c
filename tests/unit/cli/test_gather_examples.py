"""Examples follow from ranks alone, hold only texts that nobody wrote, and cost nothing twice."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest

from airlab.cli.gather_examples import SHOWN_TOKENS, gather_examples, write_examples
from airlab.errors import UserError
from airlab.reporting.token_maps import TokenMap, render_examples
from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.schema.scoring import Scoring
from airlab.schema.traces import Aggregation, Rendering, Segmentation
from airlab.selection.selectors.attention_influence import AttentionInfluence
from airlab.stages.measure_losses import MeasureLosses
from airlab.stages.measure_steps import MeasureSteps
from airlab.stages.score_traces import ScoreTraces
from airlab.stages.score_units import ScoreUnits
from airlab.store.files import Files
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store
from airlab.text import reasoning
from airlab.text.documents import Document, write_documents
from airlab.text.traces import Message, Trace, write_traces
from tests.unit.cli.conftest import text
from tests.unit.cli.model_folders import random_folder

RESULTS = Path(__file__).parents[3] / "results"
METHOD = AttentionInfluence(kind="attention_influence")
GENERATED = f"{reasoning.PACKAGE}=={reasoning.VERSION}"
AGAIN = "airlab report experiment=x texts=all"


@dataclass(frozen=True)
class Sourced(Stage):
    """Seven documents of one domain, two of another and one of a third, of alternating sources."""

    VERSION: ClassVar[int] = 1
    sources: tuple[str, ...]

    def run(self, work: Workdir, machine: Machine) -> None:
        domains = "aaaaaaabbc"
        rows = [
            Document(
                f"d{(3 * n) % 10}",
                domain,
                text(n) * (60 if n == 2 else 1),
                self.sources[n % len(self.sources)],
                "" if n % 2 else "MIT",
                f"member{n}.py",
            )
            for n, domain in enumerate(domains)
        ]
        with work.writing("documents.parquet") as path:
            write_documents(path, rows)


@dataclass(frozen=True)
class Answers(Stage):
    """Four traces of two steps."""

    VERSION: ClassVar[int] = 1

    def run(self, work: Workdir, machine: Machine) -> None:
        rows = [
            Trace(
                f"t{n}", "d", (Message("user", text(n)),), f"{text(n + 4)}\n\n{text(n + 9)}", GENERATED, "MIT"
            )
            for n in range(4)
        ]
        with work.writing("traces.parquet") as path:
            write_traces(path, rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    random_folder(folder / "model")
    (folder / "heads.json").write_text("[[1, 2]]")
    return folder


def documents_target(folder: Path, *sources: str) -> ScoreUnits:
    corpus = Sourced(sources)
    model, heads = Files.of(folder / "model"), Files.of(folder / "heads.json")
    return ScoreUnits(MeasureLosses(model, heads, Masking(), corpus, Scoring()), corpus, METHOD, 0)


def finished(store: Store, target: Stage) -> dict[str, Stage]:
    Plan(store, [target]).run(Machine())
    return {"arm": target}


def test_examples_are_the_first_the_middle_and_the_last_rank_of_each_domain(folder: Path) -> None:
    store = Store(folder / "store")
    target = documents_target(folder, GENERATED)
    gathered = gather_examples(finished(store, target), store, Machine(), texts="generated", again=AGAIN)
    assert gathered is not None
    scores = pq.read_table(store.folder(target) / "scores.parquet").to_pylist()
    expected = []
    for domain, ranks in (("a", (0, 3, 6)), ("b", (0, 1)), ("c", (0,))):
        ranked = sorted((r for r in scores if r["domain"] == domain), key=lambda r: -r["score"])
        expected += [(domain, ranked[rank]["unit_id"], rank + 1, len(ranked)) for rank in ranks]
    examples = gathered["examples"]
    assert [(e["domain"], e["id"], e["rank"], e["of"]) for e in examples] == expected
    assert [e["place"] for e in examples] == [
        "top", "middle", "bottom", "top and middle", "bottom", "top and middle and bottom",
    ]  # fmt: skip
    losses = {
        r["unit_id"]: r for r in pq.read_table(store.folder(target.losses) / "losses.parquet").to_pylist()
    }
    texts = pq.read_table(store.folder(target.corpus) / "documents.parquet", columns=["unit_id", "text"])
    by_id = {row["unit_id"]: row["text"] for row in texts.to_pylist()}
    cut = 0
    for example in examples:
        shown, row = TokenMap.of_json(example["map"]), losses[example["id"]]
        assert (shown.n_tokens, example["n_tokens"]) == (row["n_tokens"], row["n_tokens"])
        np.testing.assert_allclose(
            [shown.loss_sum_base, shown.loss_sum_ref], [row["loss_sum_base"], row["loss_sum_ref"]], rtol=1e-6
        )
        assert shown.text == by_id[example["id"]][: len(shown.text)]
        assert sum(shown.tokens) == min(SHOWN_TOKENS, shown.all_tokens)
        cut += sum(shown.tokens) < shown.all_tokens
    assert cut <= 1


def test_what_somebody_wrote_is_not_published_whatever_its_licence(folder: Path, tmp_path: Path) -> None:
    store = Store(folder / "store")
    targets = finished(store, documents_target(folder, GENERATED, "package==1.0", ""))
    gathered = gather_examples(targets, store, Machine(), texts="generated", again=AGAIN)
    assert gathered is not None
    write_examples(tmp_path, gathered)
    assert json.loads((tmp_path / "examples.json").read_text()) == json.loads(json.dumps(gathered))
    for example in gathered["examples"]:
        assert (example["map"] is not None) == (example["source"] == GENERATED)
        if example["map"] is None:
            assert AGAIN in example["why_no_text"]
            assert (example["licence"] or "not recorded") in example["why_no_text"]
    kept = {e["source"] for e in gathered["examples"]}
    assert kept == {GENERATED, "package==1.0", ""}, "all cases occur, or this shows nothing"
    page = render_examples(tmp_path)
    assert page.count('class="tm-t"') == sum(e["map"] is not None for e in gathered["examples"])
    every = gather_examples(targets, store, Machine(), texts="all", again=AGAIN)
    assert every is not None and all(e["map"] is not None for e in every["examples"])


def test_asking_again_runs_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(folder / "store")
    targets = finished(store, documents_target(folder, GENERATED))
    first = gather_examples(targets, store, Machine(), texts="generated", again=AGAIN)
    capsys.readouterr()
    assert gather_examples(targets, store, Machine(), texts="generated", again=AGAIN) == first
    assert "started" not in capsys.readouterr().err


def test_traces_have_their_steps(folder: Path) -> None:
    store, traces = Store(folder / "store"), Answers()
    model, heads = Files.of(folder / "model"), Files.of(folder / "heads.json")
    plain = Rendering(template="plain")
    losses = MeasureSteps(model, heads, Masking(), traces, plain, Segmentation(), Scoring(), too_long="skip")
    target = ScoreTraces(losses, traces, METHOD, 0, Aggregation(), ())
    gathered = gather_examples(finished(store, target), store, Machine(), texts="generated", again=AGAIN)
    assert gathered is not None and len(gathered["examples"]) == 3
    steps = pq.read_table(store.folder(losses) / "losses.parquet").to_pylist()
    for example in gathered["examples"]:
        shown = TokenMap.of_json(example["map"])
        own = [row for row in steps if row["parent_id"] == example["id"]]
        assert [s.n_tokens for s in shown.steps] == [row["n_tokens"] for row in own]
        assert len(own) == 2
        for step, row in zip(shown.steps, own, strict=True):
            np.testing.assert_allclose(
                [step.loss_sum_base, step.loss_sum_ref],
                [row["loss_sum_base"], row["loss_sum_ref"]],
                atol=2e-4,
            )


def test_what_was_not_scored_has_no_examples(folder: Path) -> None:
    target = documents_target(folder, GENERATED)
    store = Store(folder / "empty")
    assert gather_examples({"arm": target}, store, Machine(), texts="all", again=AGAIN) is None


def test_committed_examples_hold_generated_texts_alone() -> None:
    found = [json.loads(path.read_text()) for path in RESULTS.rglob("examples.json")]
    examples = [example for file in found for example in file["examples"]]
    assert any(example["map"] for example in examples)
    for example in examples:
        assert (example["map"] is not None) == example["source"].startswith(f"{reasoning.PACKAGE}==")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "other", "examples": []}'])
def test_a_damaged_file_of_examples_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "examples.json").write_text(content)
    with pytest.raises(UserError, match="does not hold examples"):
        render_examples(tmp_path)
    assert render_examples(tmp_path / "nowhere") == ""
