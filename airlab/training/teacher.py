"""What a teacher would say at every predicted token: asked once, kept on disk, found again by trace."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from airlab.errors import UserError
from airlab.models.device import DTYPES, to_device, use_device
from airlab.models.exactness import check_exactness
from airlab.models.load import CausalLM, load_causal_lm
from airlab.models.packed import hidden_states
from airlab.schema.machine import Machine
from airlab.training.distillation import buckets
from airlab.training.trace_data import TraceData, vocabulary_digest
from airlab.training.weighted_loss import LOGITS_AT_ONCE

TEACHER = "teacher.parquet"
FACTS = "teacher.json"


def teacher_schema(top_k: int) -> pa.Schema:
    """Columns of the table: a row for each predicted token, trace after trace, in order.

    `token` is the one that the trace has; `top_log_probs` are nats, most likely first; `rest_log_prob` is of
    all other tokens together.
    """
    return pa.schema(
        [
            ("unit_id", pa.string()),
            ("token", pa.int32()),
            ("top_tokens", pa.list_(pa.int32(), top_k)),
            ("top_log_probs", pa.list_(pa.float32(), top_k)),
            ("rest_log_prob", pa.float32()),
        ]
    )


class Teacher:
    """A model to be asked about the predicted tokens of training data."""

    def __init__(
        self,
        folder: Path,
        data: TraceData,
        top_k: int,
        precision: Literal["float32", "bfloat16"],
        machine: Machine,
    ) -> None:
        """Load it.

        Raises:
            UserError: the model cannot be asked (see `load_causal_lm` and `check_exactness`), it has another
                vocabulary or a shorter context than the data, or `top_k` leaves no other tokens.
        """
        lm = load_causal_lm(folder, device=use_device(machine), dtype=DTYPES[precision])
        if vocabulary_digest(lm.tokenizer) != data.vocabulary:
            raise UserError(
                f"the teacher in {folder} has another vocabulary than the model that the data are for: "
                "its tokens are not the student's; use a teacher of the same family."
            )
        self._n_tokens = max(lm.tokenizer.get_vocab().values()) + 1
        if not 0 < top_k < self._n_tokens:
            raise UserError(f"top_k is {top_k} and must be from 1 to {self._n_tokens - 1}, below all tokens.")
        longest = int(data.lengths.max())
        if longest > lm.geometry.context:
            raise UserError(
                f"the longest trace has {longest} tokens and the teacher a context of {lm.geometry.context}: "
                "build the data with a context of that or less."
            )
        check_exactness(lm, longest=longest)
        self._lm, self._data, self._top_k = lm, data, top_k
        self._tokens_per_batch = machine.tokens_per_batch

    @property
    def facts(self) -> dict[str, Any]:
        """What the answers are of."""
        return {"teacher": self._lm.digest, "data": self._data.sha256, "top_k": self._top_k}

    def ask(self, traces: Sequence[int]) -> pa.Table:
        """The rows of some traces, of which as many share a forward pass as the machine holds."""
        return pa.concat_tables([self._ask(batch) for batch in self._batches(traces)])

    def _batches(self, traces: Sequence[int]) -> Iterator[list[int]]:
        batch: list[int] = []
        n_tokens = 0
        for trace in traces:
            length = int(self._data.lengths[trace])
            if batch and n_tokens + length > self._tokens_per_batch:
                yield batch
                batch, n_tokens = [], 0
            batch.append(trace)
            n_tokens += length
        yield batch

    @torch.inference_mode()
    def _ask(self, traces: Sequence[int]) -> pa.Table:
        data, device = self._data, self._lm.device
        ids = np.concatenate([data.ids(trace) for trace in traces]).astype(np.int64)
        lengths, n_predicted = data.lengths[traces], data.n_predicted[traces]
        ends = np.cumsum(lengths)
        predicted = np.concatenate(
            [np.arange(end - n, end) for end, n in zip(ends, n_predicted, strict=True)]
        )
        states = hidden_states(self._lm, to_device(ids, device), lengths.tolist())[0]
        states = states[to_device(predicted - 1, device)]
        found = [self._most_likely(part) for part in states.split(_rows_at_once(self._lm))]
        tokens, log_probs = (torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))
        units = pa.array([data.unit_ids[trace] for trace in traces])
        columns = [
            units.take(pa.array(np.repeat(np.arange(len(traces)), n_predicted))),
            pa.array(ids[predicted].astype(np.int32)),
            pa.FixedSizeListArray.from_arrays(tokens.astype(np.int32).ravel(), self._top_k),
            pa.FixedSizeListArray.from_arrays(log_probs[:, :-1].ravel(), self._top_k),
            pa.array(log_probs[:, -1]),
        ]
        return pa.table(columns, schema=teacher_schema(self._top_k))

    def _most_likely(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens [n, k] and log-probabilities [n, k + 1]."""
        logits = self._lm.model.get_output_embeddings()(states).float()
        # Rows of the output projection beyond the tokenizer's are no tokens; they belong to the rest.
        tokens = logits[:, : self._n_tokens].topk(self._top_k, dim=1).indices
        return tokens, buckets(logits, tokens)


def _rows_at_once(lm: CausalLM) -> int:
    return max(1, LOGITS_AT_ONCE // int(lm.model.get_output_embeddings().weight.shape[0]))


@dataclass(frozen=True, eq=False)
class TeacherTable:
    """What `CacheTeacher` left of the traces that are trained on, in memory: 8 k bytes a predicted token."""

    first: np.ndarray
    """int64 [traces], of each the row of its first predicted token."""
    tokens: np.ndarray
    """int32 [rows, k]."""
    log_probs: np.ndarray
    """float32 [rows, k + 1]: of these tokens, and of all others together."""
    facts: dict[str, Any]
    """Which teacher was asked about what: what a resumed training run must find again."""

    @classmethod
    def open(cls, folder: Path, data: TraceData) -> "TeacherTable":
        """Find each trace of `data`.

        Raises:
            UserError: a trace is not in the table, or has other tokens there.
        """
        facts = json.loads((folder / FACTS).read_text())
        numbers = {unit_id: number for number, unit_id in enumerate(data.unit_ids)}
        first = np.full(len(numbers), -1, dtype=np.int64)
        tokens, log_probs, n_rows = [], [], 0
        with pq.ParquetFile(folder / TEACHER) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group).combine_chunks()
                runs = pc.run_end_encode(table["unit_id"].chunk(0))
                ends = runs.run_ends.to_numpy()
                for unit_id, begin, end in zip(runs.values.to_pylist(), [0, *ends[:-1]], ends, strict=True):
                    number = numbers.get(unit_id)
                    if number is None:
                        continue
                    rows = table.slice(begin, end - begin)
                    _check_tokens(data, number, rows["token"].to_numpy())
                    first[number] = n_rows
                    n_rows += rows.num_rows
                    kept = (_flat(rows[name]).reshape(rows.num_rows, -1) for name in _KEPT)
                    top, top_log_probs, rest = kept
                    tokens.append(top)
                    log_probs.append(np.concatenate([top_log_probs, rest], axis=1))
        if (first < 0).any():
            absent = data.unit_ids[int(np.flatnonzero(first < 0)[0])]
            raise UserError(
                f"the teacher was not asked about trace '{absent}': ask it about all that are trained on."
            )
        return cls(first, np.concatenate(tokens), np.concatenate(log_probs), facts)


_KEPT = ("top_tokens", "top_log_probs", "rest_log_prob")


def _flat(column: pa.ChunkedArray) -> np.ndarray:
    array = column.combine_chunks()
    values: np.ndarray = (array.flatten() if pa.types.is_fixed_size_list(array.type) else array).to_numpy()
    return values


def _check_tokens(data: TraceData, trace: int, tokens: np.ndarray) -> None:
    n_predicted = int(data.n_predicted[trace])
    if not np.array_equal(tokens, data.ids(trace)[-n_predicted:]):
        raise UserError(
            f"the teacher was asked about other tokens of trace '{data.unit_ids[trace]}': use the same "
            "tokenizer and rendering for the teacher's data and for training."
        )
