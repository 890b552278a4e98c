"""Measure every reasoning step's loss under the base model and the reference model."""

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airlab.errors import UserError
from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.schema.scoring import Scoring
from airlab.schema.traces import Rendering, Segmentation
from airlab.stages.masked_model import heads_file, load_masked
from airlab.stages.measure_losses import SCHEMA
from airlab.stages.prepare_model import Model
from airlab.stages.shards import Measuring, ShardedStage, measure_shards
from airlab.store.files import Files
from airlab.store.stage import Stage, Workdir
from airlab.text.documents import SKIPPED_SCHEMA, Shard, cut_into_shards

if TYPE_CHECKING:
    from airlab.scoring.losses import LossSums
    from airlab.text.trace_tokens import TraceTokens
    from airlab.text.traces import Trace

TooLong = Literal["skip", "window", "refuse"]

STEPS_SCHEMA = pa.schema(
    [
        ("unit_id", pa.string()),
        ("parent_id", pa.string()),
        ("step", pa.int64()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("first_token", pa.int64()),
        ("n_tokens", pa.int64()),
    ]
)
"""Characters of the response; the first predicted token, counted from the trace's first, prompt included."""

KINDS = {"skipped": SKIPPED_SCHEMA, "steps": STEPS_SCHEMA, "losses": SCHEMA}
"""The tables of a shard."""


@dataclass(frozen=True)
class MeasureSteps(ShardedStage):
    """The LossTable `losses.parquet` of steps, and `steps.parquet`, where they lie; in the traces' order.

    A step is named `<trace>#<number from 0>`, its parent is the trace, and its `n_tokens` are the tokens of
    the response alone. Each is conditioned on everything before it. Traces without a step, and those too long
    by the rule `too_long`, are listed in `skipped.parquet`. Resume unit, cost and reading ahead are those of
    `MeasureLosses`, with traces for documents.
    """

    VERSION: ClassVar[int] = 1
    KINDS: ClassVar[Mapping[str, pa.Schema]] = KINDS
    UNITS: ClassVar[str] = "traces"
    model: Model
    heads: Stage | Files
    """A ranking's stage, or the user's own file of heads."""
    masking: Masking
    traces: Stage
    rendering: Rendering
    segmentation: Segmentation
    scoring: Scoring
    too_long: TooLong
    """What happens to a trace of more than `scoring.window_tokens` tokens: it is skipped, cut into windows as
    a document is (later steps then lose sight of the prompt), or ends the run."""

    def slug(self) -> str:
        return self.segmentation.rule.replace("_", "-")

    def run(self, work: Workdir, machine: Machine) -> None:
        from airlab.heads.mask import read_mask

        if not work.has("losses.parquet"):
            mask = read_mask(heads_file(work, self.heads), self.masking.share_of_heads, self.masking.mode)
            work.note(masked_heads=[list(h) for h in mask.heads])
            measure_shards(work, self, machine)
        shutil.rmtree(work.path("shards"), ignore_errors=True)
        losses = pq.read_table(work.path("losses.parquet"), columns=["parent_id", "n_tokens"])
        scored = pc.count_distinct(losses["parent_id"]).as_py()
        reasons = Counter(pq.read_table(work.path("skipped.parquet"))["reason"].to_pylist())
        if scored + reasons.total() != pq.read_metadata(self.source(work)).num_rows:
            raise RuntimeError(f"{scored} scored and {reasons.total()} skipped traces are not the input")
        work.note(
            scored=scored,
            skipped=reasons.total(),
            skipped_by_reason=dict(sorted(reasons.items())),
            steps=losses.num_rows,
            tokens=pc.sum(losses["n_tokens"]).as_py() or 0,
        )

    def source(self, work: Workdir) -> Path:
        return work.input(self.traces) / "traces.parquet"

    def cut(self, table: pq.FileMetaData, machine: Machine) -> list[Shard]:
        return cut_into_shards(table, machine.documents_per_shard, column=None)

    def measuring(self, work: Workdir, machine: Machine, table: pq.ParquetFile) -> Measuring:
        """See `ShardedStage`.

        Raises:
            UserError: as `load_masked` does; its `measure` as `too_long` says.
        """
        from airlab.scoring.steps import measure_steps
        from airlab.text.trace_tokens import tokenized_traces

        lm, mask = load_masked(work, machine, self.model, self.heads, self.masking, self.scoring)
        measure = partial(
            measure_steps,
            lm,
            mask.reference(lm.device),
            window_tokens=self.scoring.window_tokens,
            tokens_per_batch=machine.tokens_per_batch,
        )

        def tables(
            parts: "Sequence[Sequence[tuple[Trace, TraceTokens | str]]]", advance: Callable[[float], None]
        ) -> dict[str, pa.Table]:
            found = [self._fitting(trace, tokens) for part in parts for trace, tokens in part]
            return _tables(found, partial(measure, advance=advance))

        return Measuring(
            lambda shard: tokenized_traces(
                table, shard.groups, lm.tokenizer, self.rendering, self.segmentation
            ),
            tables,
        )

    def _fitting(self, trace: "Trace", tokens: "TraceTokens | str") -> "tuple[Trace, TraceTokens | str]":
        window = self.scoring.window_tokens
        if isinstance(tokens, str) or len(tokens.ids) <= window or self.too_long == "window":
            return trace, tokens
        if self.too_long == "skip":
            return trace, f"longer than {window} tokens"
        raise UserError(
            f"trace '{trace.unit_id}' has {len(tokens.ids)} tokens and scoring.window_tokens is {window}: "
            "raise that up to the model's context, or set too_long to skip or window."
        )


def _tables(
    found: "Sequence[tuple[Trace, TraceTokens | str]]",
    measure: "Callable[[Sequence[TraceTokens]], Sequence[Sequence[LossSums]]]",
) -> dict[str, pa.Table]:
    """What was measured of a shard's traces, where their steps lie, and what was skipped."""
    from airlab.scoring.losses import check_finite

    scored = [(trace, tokens) for trace, tokens in found if not isinstance(tokens, str)]
    skipped = [(t.unit_id, t.domain, tokens) for t, tokens in found if isinstance(tokens, str)]
    steps, losses = [], []
    for (trace, tokens), sums in zip(scored, measure([tokens for _, tokens in scored]), strict=True):
        check_finite(sums, partial("step {1} of trace {0}".format, trace.unit_id))
        for number, (step, s) in enumerate(zip(tokens.steps, sums, strict=True)):
            unit_id = f"{trace.unit_id}#{number}"
            steps.append((unit_id, trace.unit_id, number, *step))
            losses.append((unit_id, trace.unit_id, trace.domain, s.n_tokens, s.base, s.reference, s.entropy))
    rows: dict[str, Sequence[tuple[object, ...]]] = {"skipped": skipped, "steps": steps, "losses": losses}
    return {kind: _table(rows[kind], schema) for kind, schema in KINDS.items()}


def _table(rows: Sequence[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)
