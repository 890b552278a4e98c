"""Attention influence as a step of anybody's datatrove pipeline."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.pipeline.base import PipelineStep

from airlab.pipelines.inputs import reading, use_own_gpu
from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.schema.scoring import Scoring
from airlab.stages.masked_model import load_masked
from airlab.store.files import Files

_NUMBERS = ("loss_base", "loss_ref", "entropy", "attention_influence")


class ScoreDocuments(PipelineStep):
    """Adds to every document's metadata what `airlab score` writes beside it, and passes all documents on.

    `n_tokens` (predicted), `loss_base`, `loss_ref`, `entropy` (nats a token) and `attention_influence`. A
    document of fewer than two tokens has nothing to predict: its `n_tokens` is 0 and the others are None; one
    that is predicted with certainty has losses, and None for the score, which is relative to them.
    What a task is given is scored in lots of `machine.documents_per_shard` documents, so the same tasks give
    the same numbers however many workers there are. Documents come and go in order; ids are not needed.

    Args:
        model: a folder in the Hugging Face format.
        heads: the file that `airlab heads` wrote for that very model.
    """

    name = "attention influence"
    type = "airlab"

    def __init__(
        self,
        model: Path | str,
        heads: Path | str,
        masking: Masking | None = None,
        scoring: Scoring | None = None,
        machine: Machine | None = None,
    ) -> None:
        super().__init__()
        self.model = Files.of(Path(model))
        self.heads = Files.of(Path(heads))
        self.masking = masking or Masking()
        self.scoring = scoring or Scoring()
        self.machine = machine or Machine()

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Score and yield.

        Raises:
            UserError: a model or heads that cannot be used, or a loss that is not a number.
        """
        documents = iter(data)
        lot = list(islice(documents, self.machine.documents_per_shard))
        if not lot:
            return  # a task without documents loads no model
        use_own_gpu(self.machine, rank)
        with reading(None) as work:
            model = load_masked(work, self.machine, self.model, self.heads, self.masking, self.scoring)
        while lot:
            with self.track_time("batch"):
                self._score(lot, *model)
            yield from lot
            lot = list(islice(documents, self.machine.documents_per_shard))

    def _score(self, lot: Sequence[Any], lm: Any, mask: Any) -> None:
        from airlab.scoring.influence import attention_influence
        from airlab.scoring.losses import check_finite, measure_documents
        from airlab.text.tokens import encode_documents

        tokens = encode_documents(lm.tokenizer, [document.text for document in lot])
        usable = [number for number, ids in enumerate(tokens) if len(ids) > 1]
        sums = measure_documents(
            lm,
            mask.reference(lm.device),
            [tokens[number] for number in usable],
            window_tokens=self.scoring.window_tokens,
            tokens_per_batch=self.machine.tokens_per_batch,
        )
        columns = np.array([(found.base, found.reference, found.entropy) for found in sums]).reshape(-1, 3)
        check_finite(sums, lambda number: f"document {lot[usable[number]].id}")
        uncertain = columns[:, 0] > 0
        influence = np.full(len(columns), None)
        influence[uncertain] = attention_influence(*columns[uncertain, :2].T)
        for document in lot:
            document.metadata |= {"n_tokens": 0, **dict.fromkeys(_NUMBERS)}
        for number, found, score in zip(usable, sums, influence, strict=True):
            means = [total / found.n_tokens for total in (found.base, found.reference, found.entropy)]
            told = dict(zip(_NUMBERS, [*means, score], strict=True))
            lot[number].metadata |= {"n_tokens": found.n_tokens, **told}
        self.stat_update("scored", value=len(usable))
        self.stat_update("too short", value=len(lot) - len(usable))
