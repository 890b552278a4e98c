"""A scoring stage over made-up documents and a small model of random weights."""

from collections.abc import Collection
from pathlib import Path

from airlab.schema.heads import Masking
from airlab.schema.scoring import Scoring
from airlab.schema.text import Columns
from airlab.stages.import_corpus import ImportCorpus
from airlab.stages.measure_losses import MeasureLosses
from airlab.store.files import Files
from tests.unit.cli.conftest import documents, write_jsonl
from tests.unit.cli.model_folders import random_folder


def scoring_stage(folder: Path, count: int, short: Collection[int]) -> MeasureLosses:
    """Over `count` documents written into `folder`; those numbered in `short` have nothing to predict."""
    rows = documents(count)
    for number in short:
        rows[number] |= {"text": "x"}
    (folder / "heads.json").write_text("[[1, 2]]")
    corpus = ImportCorpus.of_path(
        write_jsonl(folder / "docs.jsonl", rows),
        Columns(text=None, id=None, domain=None, default_domain="all"),
    )
    model, heads = Files.of(random_folder(folder / "model")), Files.of(folder / "heads.json")
    return MeasureLosses(model, heads, Masking(), corpus, Scoring())
