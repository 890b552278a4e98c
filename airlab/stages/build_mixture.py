"""The pool as tokens, and the training stream of one arm."""

from dataclasses import dataclass
from typing import ClassVar

from airlab.schema.machine import Machine
from airlab.schema.mixture import MixtureSpec
from airlab.stages.tokenize_shards import TokenizeShards
from airlab.store.stage import Stage, Workdir


@dataclass(frozen=True)
class TokenizeCorpus(Stage):
    """Every document of `corpus` as ids of `tokenizer`, once for all arms."""

    VERSION: ClassVar[int] = 1

    corpus: Stage
    tokenizer: Stage

    def run(self, work: Workdir, machine: Machine) -> None:
        """Encode all documents."""
        from airlab.training.tokenizer import tokenize_corpus

        documents = work.input(self.corpus) / "documents.parquet"
        work.note(**tokenize_corpus(documents, work.input(self.tokenizer), work.folder))


@dataclass(frozen=True)
class BuildMixture(Stage):
    """The training stream of one arm; `selection` is None for the baseline, the full pool alone.

    The tokens do not depend on the arm: `budget_tokens` rounded down to whole sequences.
    """

    VERSION: ClassVar[int] = 1

    tokenized: TokenizeCorpus | TokenizeShards
    selection: Stage | None
    spec: MixtureSpec
    budget_tokens: int
    context: int
    seed: int

    def slug(self) -> str:
        """Such as `upsample-0`."""
        return f"{'full' if self.selection is None else self.spec.kind}-{self.seed}"

    def run(self, work: Workdir, machine: Machine) -> None:
        """Gather the tokens of the passes."""
        import pyarrow.parquet as pq

        from airlab.selection.mixture import TokenizedCorpus, write_mixture

        selection = None
        if self.selection is not None:
            table = pq.read_table(work.input(self.selection) / "selection.parquet", columns=["unit_id"])
            selection = table["unit_id"]
        facts = write_mixture(
            corpus=TokenizedCorpus.open(work.input(self.tokenized)),
            selection=selection,
            spec=self.spec,
            budget_tokens=self.budget_tokens,
            context=self.context,
            seed=self.seed,
            folder=work.folder,
        )
        work.note(**facts)
