"""Attention influence as a step of anybody's datatrove pipeline."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from airlab.pipelines.texts import Scorer
from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.schema.scoring import Scoring


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
        self.scorer = Scorer.of(model, heads, masking, scoring, machine)

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Score and yield.

        Raises:
            UserError: a model or heads that cannot be used, a loss that is not a number, or no memory.
        """
        documents, size = iter(data), self.scorer.machine.documents_per_shard
        lot = list(islice(documents, size))
        if not lot:
            return  # a task without documents loads no model
        scorer = self.scorer.load()
        while lot:
            with self.track_time("batch"):
                texts = [document.text for document in lot]
                scores = scorer.score(texts, lambda number, lot=lot: f"document {lot[number].id}")  # type: ignore[misc]
            for number, document in enumerate(lot):
                document.metadata |= {name: column[number] for name, column in scores.items()}
            too_short = scores["n_tokens"].count(0)
            self.stat_update("scored", value=len(lot) - too_short)
            self.stat_update("too short", value=too_short)
            yield from lot
            lot = list(islice(documents, size))
