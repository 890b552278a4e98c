"""How much of the held-out text an arm's training stream holds."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow.parquet as pq

from airlab.schema.machine import Machine
from airlab.stages.build_mixture import BuildMixture
from airlab.store.stage import Stage, Workdir

_FILE = "coverage.json"


@dataclass(frozen=True)
class MeasureCoverage(Stage):
    """`coverage.json`: for each domain, the share of held-out text's token n-grams that the stream holds.

    Cost: some seconds for twenty million tokens, and 24 bytes of memory a token.
    """

    VERSION: ClassVar[int] = 1
    mixture: BuildMixture
    corpus: Stage
    """The corpus of the mixture, with held-out documents (BuildPool)."""
    tokenizer: Stage
    """Of the mixture's tokens."""
    n: int
    """Tokens in an n-gram."""

    def slug(self) -> str:
        return self.mixture.slug()

    def run(self, work: Workdir, machine: Machine) -> None:
        from airlab.selection.covered import shares_covered
        from airlab.selection.mixture import Mixture
        from airlab.training.tokenizer import DocumentEncoder

        held_out = pq.read_table(
            work.input(self.corpus) / "heldout.parquet", columns=["domain", "text"]
        ).to_pylist()
        encoder = DocumentEncoder(work.input(self.tokenizer))
        texts = {
            domain: list(encoder.encode([row["text"] for row in held_out if row["domain"] == domain]))
            for domain in sorted({row["domain"] for row in held_out})
        }
        stream = Mixture.open(work.input(self.mixture)).tokens()
        with work.writing(_FILE) as path:
            path.write_text(json.dumps(shares_covered(stream, texts, self.n), indent=1) + "\n")
        work.note(domains=len(texts))


def read_coverage(folder: Path) -> dict[str, float]:
    """The shares in the stage's finished folder, by domain."""
    found: dict[str, float] = json.loads((folder / _FILE).read_text())
    return found
