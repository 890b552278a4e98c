"""A tokenizer for the target, trained on the pool."""

from dataclasses import dataclass
from typing import ClassVar

from airlab.progress import waiting
from airlab.schema.machine import Machine
from airlab.store.stage import Stage, Workdir


@dataclass(frozen=True)
class TrainTokenizer(Stage):
    """A byte-level BPE over all documents of `corpus`; the folder loads with AutoTokenizer."""

    VERSION: ClassVar[int] = 1

    corpus: Stage
    vocabulary_size: int

    def slug(self) -> str:
        """Such as `4096`."""
        return str(self.vocabulary_size)

    def run(self, work: Workdir, machine: Machine) -> None:
        """Train and save."""
        from airlab.training.tokenizer import document_texts, train_tokenizer

        texts = document_texts(work.input(self.corpus) / "documents.parquet")
        with waiting("training the tokenizer"):
            tokenizer = train_tokenizer(texts, self.vocabulary_size)
        tokenizer.save_pretrained(work.folder)
        work.note(vocabulary_size=len(tokenizer))
