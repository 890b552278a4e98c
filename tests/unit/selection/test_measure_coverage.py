"""A stream holds the held-out text that its own documents are copies of, and nothing by accident."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airlab.schema.machine import Machine
from airlab.schema.mixture import MixtureSpec
from airlab.stages.build_mixture import BuildMixture, TokenizeCorpus
from airlab.stages.measure_coverage import MeasureCoverage, read_coverage
from airlab.stages.train_tokenizer import TrainTokenizer
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store

CHOSEN = 10


@dataclass(frozen=True)
class CopiedCorpus(Stage):
    """Forty documents; held-out text of `chosen` is the first ten of them, of `others` the rest."""

    VERSION: ClassVar[int] = 1

    def run(self, work: Workdir, machine: Machine) -> None:
        draw = np.random.default_rng(0)
        texts = [" ".join(str(number) for number in draw.integers(10_000, size=30)) for _ in range(40)]
        ids = [f"d{n:02d}" for n in range(40)]
        rows = {"unit_id": ids, "domain": ["all"] * 40, "text": texts}
        pq.write_table(pa.table(rows), work.path("documents.parquet"))
        groups = ["chosen"] * CHOSEN + ["others"] * (40 - CHOSEN)
        pq.write_table(pa.table({"domain": groups, "text": texts}), work.path("heldout.parquet"))


@dataclass(frozen=True)
class FirstOnes(Stage):
    VERSION: ClassVar[int] = 1

    def run(self, work: Workdir, machine: Machine) -> None:
        ids = [f"d{n:02d}" for n in range(CHOSEN)]
        pq.write_table(pa.table({"unit_id": ids}), work.path("selection.parquet"))


def test_a_stream_holds_what_its_documents_say(tmp_path: Path) -> None:
    corpus = CopiedCorpus()
    tokenizer = TrainTokenizer(corpus, 280)
    tokenized = TokenizeCorpus(corpus, tokenizer)
    budget = 32 * 400  # more than one pass of the whole

    def coverage(selection: Stage | None) -> dict[str, float]:
        spec = MixtureSpec(kind="subset_only") if selection else MixtureSpec()
        mixture = BuildMixture(tokenized, selection, spec, budget, 32, 0)
        stage = MeasureCoverage(mixture, corpus, tokenizer, 8)
        store = Store(tmp_path / "store")
        Plan(store, [stage]).run(Machine())
        return read_coverage(store.folder(stage))

    assert coverage(None) == {"chosen": 1.0, "others": 1.0}
    part = coverage(FirstOnes())
    assert part["chosen"] == 1.0 and part["others"] < 0.1
