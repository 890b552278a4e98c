"""Reasoning traces as tokens and weights, ready to be fine-tuned on."""

import json
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import pyarrow.parquet as pq

from airlab.errors import UserError
from airlab.progress import progress
from airlab.schema.machine import Machine
from airlab.schema.traces import Rendering, Segmentation
from airlab.stages.prepare_model import Model, model_folder
from airlab.store.stage import Stage, Workdir
from airlab.text.documents import Skipped, write_skipped

if TYPE_CHECKING:
    from airlab.text.trace_tokens import TraceTokens
    from airlab.text.traces import Trace

Weights = dict[str, dict[int, tuple[int, float]]]
"""Trace -> number of a step -> tokens that it had when it was scored, and its weight."""


@dataclass(frozen=True)
class BuildTraining(Stage):
    """What `FineTune` reads: `tokens.bin`, `weights.bin`, `index.parquet` and `training.json`.

    Traces keep their order. Those that cannot be trained on are listed in `skipped.parquet`, with the reason.
    """

    VERSION: ClassVar[int] = 1
    model: Model
    """Whose tokenizer and chat template are used."""
    traces: Stage
    rendering: Rendering
    segmentation: Segmentation
    """How the steps were cut that weights belong to; without weights it changes nothing."""
    weights: Stage | None
    """A `weights.parquet` of steps (see `WeighSteps`); None weighs all tokens of the responses 1."""
    selection: Stage | None
    """A `selection.parquet` of traces; None takes all."""
    context: int
    """Tokens of a training sequence, and of the longest trace."""
    too_long: Literal["skip", "refuse"]
    """What happens to a longer one, its closing tokens included."""

    def slug(self) -> str:
        """Such as `plain` or `softmax`."""
        return "plain" if self.weights is None else self.weights.slug()

    def run(self, work: Workdir, machine: Machine) -> None:
        """Tokenize and write; cheap enough to begin again when it was stopped."""
        from airlab.models.load import load_tokenizer
        from airlab.text.trace_tokens import tokenized_traces
        from airlab.training import trace_data

        tokenizer = load_tokenizer(model_folder(work, self.model))
        weights = None if self.weights is None else _read(work.input(self.weights) / "weights.parquet")
        chosen = self._chosen(work)
        traces = work.input(self.traces) / "traces.parquet"
        skipped: list[Skipped] = []
        found: set[str] = set()
        with ExitStack() as stack:
            streams = (
                stack.enter_context(stack.enter_context(work.writing(name)).open("wb"))
                for name in (trace_data.TOKENS, trace_data.WEIGHTS)
            )
            writer = trace_data.TraceDataWriter(*streams)
            file = stack.enter_context(pq.ParquetFile(traces))
            advance = stack.enter_context(progress("tokenising", "traces", file.metadata.num_rows))
            groups = range(file.num_row_groups)
            for some in tokenized_traces(file, groups, tokenizer, self.rendering, self.segmentation):
                advance(len(some))
                for trace, tokens in some:
                    if chosen is not None and trace.unit_id not in chosen:
                        continue
                    found.add(trace.unit_id)
                    if isinstance(tokens, str):
                        skipped.append(Skipped(trace.unit_id, trace.domain, tokens))
                        continue
                    closing = trace_data.closing_tokens(tokenizer, tokens.closing)
                    if self._is_too_long(trace, len(tokens.ids) + len(closing)):
                        reason = f"longer than {self.context} tokens"
                        skipped.append(Skipped(trace.unit_id, trace.domain, reason))
                        continue
                    steps = None if weights is None else _of(trace.unit_id, tokens, weights)
                    ids, weight = trace_data.token_weights(tokens, closing, steps)
                    n_predicted = sum(step.n_tokens for step in tokens.steps) + len(closing)
                    writer.add(trace.unit_id, trace.domain, ids, weight, n_predicted)
            _check(chosen, found, writer.n_tokens, Counter(skip.reason for skip in skipped))
        with work.writing(trace_data.INDEX) as path:
            pq.write_table(writer.index(), path)
        with work.writing("skipped.parquet") as path:
            write_skipped(path, skipped)
        facts = {"n_tokens": writer.n_tokens, "n_predicted": writer.n_predicted, "context": self.context}
        origin = {"sha256": writer.sha256, "vocabulary": trace_data.vocabulary_digest(tokenizer)}
        with work.writing(trace_data.FACTS) as path:
            path.write_text(json.dumps(facts | origin, indent=1) + "\n")
        work.note(**facts, traces=writer.index().num_rows, skipped=len(skipped))

    def _chosen(self, work: Workdir) -> set[str] | None:
        if self.selection is None:
            return None
        table = pq.read_table(work.input(self.selection) / "selection.parquet", columns=["unit_id"])
        return set(table["unit_id"].to_pylist())

    def _is_too_long(self, trace: "Trace", n_tokens: int) -> bool:
        if n_tokens > self.context and self.too_long == "refuse":
            raise UserError(
                f"trace '{trace.unit_id}' has {n_tokens} tokens and the training context is {self.context}: "
                "raise that up to the model's context, or set too_long to skip."
            )
        return n_tokens > self.context


def _read(path: Path) -> Weights:
    from airlab.selection.step_weights import check_weights

    columns = ("unit_id", "parent_id", "n_tokens", "weight")
    units, parents, n_tokens, weights = (
        pq.read_table(path, columns=[name])[name].to_numpy(zero_copy_only=False) for name in columns
    )
    check_weights(n_tokens, weights)
    found: Weights = {}
    for unit, parent, tokens, weight in zip(
        units.tolist(), parents.tolist(), n_tokens.tolist(), weights.tolist(), strict=True
    ):
        found.setdefault(parent, {})[int(unit.rpartition("#")[2])] = (tokens, weight)
    return found


def _of(unit_id: str, tokens: "TraceTokens", weights: Weights) -> list[float]:
    """The weights of a trace's steps, in order; they must be the very steps that were scored."""
    if unit_id not in weights:
        raise UserError(
            f"trace '{unit_id}' has no weights: score all traces that are trained on, or select among those "
            "that were scored."
        )
    own = weights[unit_id]
    if [own.get(number, (0, 0.0))[0] for number in range(len(own))] != [s.n_tokens for s in tokens.steps]:
        raise UserError(
            f"the steps of trace '{unit_id}' are not those that were scored: use the same tokenizer, "
            "rendering and segmentation for scoring and training."
        )
    return [own[number][1] for number in range(len(own))]


def _check(chosen: set[str] | None, found: set[str], n_tokens: int, reasons: Counter[str]) -> None:
    if chosen is not None and chosen - found:
        absent = chosen - found
        raise UserError(
            f"{len(absent)} selected trace(s) are not among the traces (the first is {min(absent)}): select "
            "from the scores of these traces."
        )
    if n_tokens == 0:
        why = f" ({reasons.most_common(1)[0][0]})" if reasons else ""
        raise UserError(f"no trace is left to train on{why}: give others or raise the context.")
