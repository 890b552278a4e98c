"""What `airlab score` writes beside a document, for texts that a pipeline hands over."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from airlab.errors import UserError
from airlab.pipelines.inputs import reading, use_own_gpu
from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.schema.scoring import Scoring
from airlab.stages.masked_model import load_masked
from airlab.store.files import Files

if TYPE_CHECKING:
    from airlab.models.load import CausalLM
    from airlab.models.packed import Reference

SCORES = ("loss_base", "loss_ref", "entropy", "attention_influence")
"""Besides `n_tokens`; losses and entropy in nats a token."""


@dataclass(frozen=True)
class Scorer:
    """What is asked for; nothing is loaded yet, so it can be sent to where it is wanted.

    Attributes:
        model: a folder in the Hugging Face format.
        heads: the file that `airlab heads` wrote for that very model.
    """

    model: Files
    heads: Files
    masking: Masking
    scoring: Scoring
    machine: Machine

    @classmethod
    def of(
        cls,
        model: Path | str,
        heads: Path | str,
        masking: Masking | None,
        scoring: Scoring | None,
        machine: Machine | None,
    ) -> "Scorer":
        """Of the user's own files; None for the defaults of `airlab score`.

        Raises:
            UserError: there are no such files.
        """
        return cls(
            Files.of(Path(model)),
            Files.of(Path(heads)),
            masking or Masking(),
            scoring or Scoring(),
            machine or Machine(),
        )

    def load(self) -> "LoadedScorer":
        """On a GPU of this process's own, where there are any.

        Raises:
            UserError: a model or heads that cannot be used.
        """
        use_own_gpu(self.machine)
        with reading(None) as work:
            lm, mask = load_masked(work, self.machine, self.model, self.heads, self.masking, self.scoring)
        return LoadedScorer(self, lm, mask.reference(lm.device))


@dataclass(frozen=True)
class LoadedScorer:
    """The model, and what makes the reference model of it."""

    asked: Scorer
    lm: "CausalLM"
    reference: "Reference"

    def score(self, texts: Sequence[str], name: Callable[[int], str]) -> dict[str, list[Any]]:
        """`n_tokens` (predicted) and SCORES of every text.

        A text of fewer than two tokens has nothing to predict: its `n_tokens` is 0 and the others are None;
        one that is predicted with certainty has losses, and None for the score, which is relative to them.

        Args:
            name: of a text by its number, for messages.

        Raises:
            UserError: a loss that is not a number, or no memory for a forward pass.
        """
        from airlab.models.device import is_out_of_memory
        from airlab.scoring.influence import attention_influence
        from airlab.scoring.losses import check_finite, measure_documents
        from airlab.text.tokens import encode_documents

        tokens = encode_documents(self.lm.tokenizer, list(texts))
        usable = [number for number, ids in enumerate(tokens) if len(ids) > 1]
        machine = self.asked.machine
        try:
            sums = measure_documents(
                self.lm,
                self.reference,
                [tokens[number] for number in usable],
                window_tokens=self.asked.scoring.window_tokens,
                tokens_per_batch=machine.tokens_per_batch,
            )
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                f"out of memory while {len(texts)} documents were scored: lower machine.tokens_per_batch (it "
                f"is {machine.tokens_per_batch})."
            ) from error
        check_finite(sums, lambda number: name(usable[number]))
        columns = np.array([(found.base, found.reference, found.entropy) for found in sums]).reshape(-1, 3)
        uncertain = columns[:, 0] > 0
        influence = np.full(len(columns), None)
        influence[uncertain] = attention_influence(*columns[uncertain, :2].T)
        scores: dict[str, list[Any]] = {"n_tokens": [0] * len(texts)}
        scores |= {column: [None] * len(texts) for column in SCORES}
        for number, found, score in zip(usable, sums, influence, strict=True):
            means = [total / found.n_tokens for total in (found.base, found.reference, found.entropy)]
            for column, value in zip(("n_tokens", *SCORES), (found.n_tokens, *means, score), strict=True):
                scores[column][number] = value
        return scores
