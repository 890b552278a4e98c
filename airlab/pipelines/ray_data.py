"""Attention influence for Ray Data: what `map_batches` calls, documents in and scores out."""

from pathlib import Path

import pyarrow as pa

from airlab.errors import UserError
from airlab.pipelines.texts import SCORES, Scorer
from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.schema.scoring import Scoring

_TYPES = {"n_tokens": pa.int64(), **dict.fromkeys(SCORES, pa.float64())}


class ScoreBatch:
    """The model, loaded once in each of Ray's actors; called with a table of documents, it adds their scores.

    Such as::

        documents.map_batches(
            ScoreBatch,
            fn_constructor_kwargs={"model": "model", "heads": "heads.json"},
            batch_format="pyarrow",
            batch_size=256,
            concurrency=4,
            num_gpus=1,  # with Machine(device="cuda")
        )

    The columns are those of `airlab score`: `n_tokens` (predicted), `loss_base`, `loss_ref`, `entropy` (nats
    a token) and `attention_influence`, null where there is nothing to predict. A batch is what losses are
    computed in. Rows and their other columns stay as they are.

    Args:
        model: a folder in the Hugging Face format.
        heads: the file that `airlab heads` wrote for that very model.
        text: the documents' column.

    Raises:
        UserError: a model or heads that cannot be used.
    """

    def __init__(
        self,
        model: Path | str,
        heads: Path | str,
        text: str = "text",
        masking: Masking | None = None,
        scoring: Scoring | None = None,
        machine: Machine | None = None,
    ) -> None:
        self.text = text
        self.scorer = Scorer.of(model, heads, masking, scoring, machine).load()

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The same rows with their scores.

        Raises:
            UserError: there are no such texts, columns of the scores' names, a loss that is not a number, or
                no memory for it.
        """
        if not isinstance(batch, pa.Table):
            raise UserError('ScoreBatch takes Arrow tables: call map_batches with batch_format="pyarrow".')
        if self.text not in batch.column_names:
            raise UserError(
                f"the documents have no column {self.text!r} ({', '.join(batch.column_names)}): name theirs, "
                'fn_constructor_kwargs={"text": …}.'
            )
        if taken := [name for name in _TYPES if name in batch.column_names]:
            raise UserError(f"the documents have a column {taken[0]} already: drop or rename it.")
        texts = batch[self.text].to_pylist()
        if None in texts:
            raise UserError(f"a document has no text in column {self.text!r}: drop such rows before.")
        scores = self.scorer.score(texts, lambda number: f"the document that begins {texts[number][:40]!r}")
        for name, kind in _TYPES.items():
            batch = batch.append_column(name, pa.array(scores[name], kind))
        return batch
