"""The IFD of documents, through all stages, against a plain transformers forward in float64."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.schema.scoring import Scoring
from airlab.scoring.losses import windows
from airlab.selection.needs import HalfLosses
from airlab.selection.selectors.ifd import Ifd
from airlab.stages.control_heads import LastHead
from airlab.stages.measure_losses import MeasureLosses
from airlab.stages.score_measured_units import ScoreMeasuredUnits, score_stage
from airlab.store.files import Files
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store
from airlab.text.documents import Document, write_documents
from airlab.text.halves import cut_in_half
from tests.unit.cli.model_folders import random_folder

MACHINE = Machine(tokens_per_batch=128, documents_per_shard=256)
WINDOW = 48
BOS = 1
TEXTS = {
    "short": "a river ran by the old stone",
    "repeats": "music garden music garden music garden",
    "lines": "first line\nsecond line\nthird\nfourth line here",
    "two words": "ab cd",
    "one letter each": "a b",
    "long": " ".join(f"winter letter {i} of the river" for i in range(8)),
    "word": "incomprehensibilities",
    "letter": "x",
}
WITHOUT = ("word", "letter")
"""Documents that cannot be cut; `letter` may have nothing to predict at all."""


@dataclass(frozen=True)
class TextsToHalve(Stage):
    VERSION: ClassVar[int] = 1

    def run(self, work: Workdir, machine: Machine) -> None:
        with work.writing("documents.parquet") as path:
            write_documents(path, (Document(name, "prose", text) for name, text in TEXTS.items()))


def model_with(folder: Path, *, bos: bool) -> Path:
    random_folder(folder)
    if bos:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, bos_token="<eos>")
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<eos> $A", special_tokens=[("<eos>", BOS)]
        )
        tokenizer.save_pretrained(folder)
    return folder


def float64_ifd(folder: Path, bos: bool) -> Callable[[str], float]:
    """Mean loss of the second half's tokens in the document, over that on its own, window by window."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    start = [BOS] if bos else []

    @torch.inference_mode()
    def losses(text: str) -> tuple[np.ndarray, int]:
        """Of every predicted token, and how many come first that are not predicted."""
        ids = start + tokenizer(text, add_special_tokens=False)["input_ids"]
        found = []
        for s, e in windows(len(ids), WINDOW):
            logits = model(torch.tensor([ids[s:e]])).logits[0, :-1]
            found.append(
                torch.nn.functional.cross_entropy(logits, torch.tensor(ids[s + 1 : e]), reduction="none")
            )
        return torch.cat(found).numpy(), 0 if bos else 1

    def ifd(text: str) -> float:
        first, second = cut_in_half(text) or ("", "")
        whole, unpredicted = losses(text)
        after = whole[len(first) - unpredicted :]  # a token a character
        assert len(after) == len(second)
        return float(after.mean() / losses(second)[0].mean())

    return ifd


@pytest.mark.parametrize("bos", [False, True], ids=["no start token", "start token"])
def test_scores_are_the_ratio_of_losses_token_by_token(tmp_path: Path, bos: bool) -> None:
    folder = model_with(tmp_path / "model", bos=bos)
    model = Files.of(folder)
    losses = MeasureLosses(model, LastHead(model), Masking(), TextsToHalve(), Scoring(window_tokens=WINDOW))
    stage = score_stage(losses, Ifd(kind="ifd"), 0, {})
    assert isinstance(stage, ScoreMeasuredUnits) and stage.selector.needs() == (HalfLosses(),)
    store = Store(tmp_path / "store")
    Plan(store, [losses, stage]).run(MACHINE)
    rows = pq.read_table(store.folder(stage) / "scores.parquet").to_pylist()
    scores = {row["unit_id"]: row["score"] for row in rows}

    reference = float64_ifd(folder, bos)
    expected = {name: reference(text) for name, text in TEXTS.items() if name not in WITHOUT}
    assert min(expected.values()) < 1 < max(expected.values()), "both sides of 1, or this shows less"
    for name, ifd in expected.items():
        assert scores[name] == pytest.approx(ifd if ifd < 1 else -ifd, rel=2e-5), name
    last = {scores[name] for name in WITHOUT if name in scores}
    assert len(last) == 1 and last.pop() < min(scores[name] for name in expected)


def test_every_document_is_halved_or_listed(tmp_path: Path) -> None:
    model = Files.of(model_with(tmp_path / "model", bos=False))
    losses = MeasureLosses(model, LastHead(model), Masking(), TextsToHalve(), Scoring(window_tokens=WINDOW))
    stage = score_stage(losses, Ifd(kind="ifd"), 0, {})
    assert isinstance(stage, ScoreMeasuredUnits)
    (paired,) = stage.measurements
    measured = paired.losses  # type: ignore[attr-defined]
    store = Store(tmp_path / "store")
    Plan(store, [stage]).run(MACHINE)
    halved = store.folder(measured.corpus)
    skipped = pq.read_table(halved / "skipped.parquet").to_pylist()
    assert [row["unit_id"] for row in skipped] == list(WITHOUT)
    units = pq.read_table(halved / "documents.parquet").to_pylist()
    assert len(units) + 2 * len(skipped) == 2 * len(TEXTS)
    whole: dict[str, str] = {}
    for row in units:
        document, _, half = row["unit_id"].rpartition("/")
        assert half in ("first", "second") and row["domain"] == "prose"
        whole[document] = whole.get(document, "") + row["text"]
    assert whole == {name: text for name, text in TEXTS.items() if name not in WITHOUT}
    rows = {row["unit_id"]: row for row in pq.read_table(store.folder(paired) / "halves.parquet").to_pylist()}
    assert list(rows) == list(TEXTS)
    for name in WITHOUT:
        assert set(list(rows[name].values())[1:]) == {0}
    # A first half of one letter has nothing to predict: an empty sum, which is exact.
    assert rows["one letter each"]["n_tokens_first"] == 0 < rows["one letter each"]["n_tokens_second"]
