"""Measure every token of a few documents or traces: the numbers that token maps show."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pyarrow.parquet as pq

from airlab.errors import UserError
from airlab.progress import progress
from airlab.reporting.token_maps import StepScore, TokenMap
from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.schema.scoring import Scoring
from airlab.schema.traces import Aggregation, Rendering, Segmentation
from airlab.stages.masked_model import heads_file, load_masked
from airlab.stages.measure_losses import MeasureLosses
from airlab.stages.measure_steps import MeasureSteps, TooLong
from airlab.stages.prepare_model import Model
from airlab.store.files import Files
from airlab.store.stage import Stage, Workdir

if TYPE_CHECKING:
    import numpy as np

    from airlab.scoring.tokens import TokenNumbers
    from airlab.text.marks import Marked

MOST_TOKENS = 50_000
"""Of all maps of a stage together: the page of so many has about 4 MB, and more is not read by anybody."""

_FILE = "maps.json"


@dataclass(frozen=True)
class MapDocuments(Stage):
    """`maps.json`: token maps of some documents, in the order asked for; see `read_maps`.

    Their losses are those of `MeasureLosses`, token by token. Cost: two passes of the base model over these
    documents, and one of the reference model above the lowest masked layer.
    """

    VERSION: ClassVar[int] = 1
    model: Model
    heads: Stage | Files
    """A ranking's stage, or the user's own file of heads."""
    masking: Masking
    corpus: Stage
    scoring: Scoring
    ids: tuple[str, ...]

    @classmethod
    def of(cls, losses: MeasureLosses, ids: tuple[str, ...]) -> Self:
        """Of documents that were measured."""
        return cls(losses.model, losses.heads, losses.masking, losses.corpus, losses.scoring, ids)

    def run(self, work: Workdir, machine: Machine) -> None:
        rows = _rows(work.input(self.corpus), "documents.parquet", self.ids)

        def marked(tokenizer: Any, row: dict[str, Any]) -> "Marked":
            from airlab.text.marks import mark_document

            return mark_document(tokenizer, row["text"])

        _map(self, work, machine, rows, marked, Aggregation())


@dataclass(frozen=True)
class MapTraces(Stage):
    """`maps.json`: token maps of some reasoning traces with their steps, in the order asked for.

    Their losses are those of `MeasureSteps`, token by token, and their scores those of `aggregation`.
    """

    VERSION: ClassVar[int] = 1
    model: Model
    heads: Stage | Files
    masking: Masking
    traces: Stage
    rendering: Rendering
    segmentation: Segmentation
    aggregation: Aggregation
    scoring: Scoring
    too_long: TooLong
    ids: tuple[str, ...]

    @classmethod
    def of(cls, losses: MeasureSteps, aggregation: Aggregation, ids: tuple[str, ...]) -> Self:
        """Of traces that were measured."""
        return cls(
            losses.model,
            losses.heads,
            losses.masking,
            losses.traces,
            losses.rendering,
            losses.segmentation,
            aggregation,
            losses.scoring,
            losses.too_long,
            ids,
        )

    def run(self, work: Workdir, machine: Machine) -> None:
        rows = _rows(work.input(self.traces), "traces.parquet", self.ids)

        def marked(tokenizer: Any, row: dict[str, Any]) -> "Marked":
            from airlab.text.marks import mark_trace
            from airlab.text.traces import Trace

            found = mark_trace(tokenizer, Trace.of_row(row), self.rendering, self.segmentation)
            if isinstance(found, str):
                raise UserError(f"it cannot be scored: {found}.")
            if len(found.ids) > self.scoring.window_tokens and self.too_long != "window":
                raise UserError(
                    f"it has {len(found.ids)} tokens and scoring.window_tokens is "
                    f"{self.scoring.window_tokens}: raise that up to the model's context, or set "
                    "too_long=window."
                )
            return found

        _map(self, work, machine, rows, marked, self.aggregation)


def read_maps(folder: Path) -> tuple[TokenMap, ...]:
    """The maps in a finished folder of either stage."""
    return tuple(TokenMap.of_json(data) for data in json.loads((folder / _FILE).read_text(encoding="utf-8")))


def _rows(folder: Path, file: str, ids: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of these ids, in their order, one row group in memory at a time.

    Raises:
        UserError: there is no such row; says why it was skipped, or which ids there are.
    """
    wanted, found = set(ids), {}
    some: list[str] = []
    with pq.ParquetFile(folder / file) as table:
        for group in range(table.num_row_groups):
            names = table.read_row_group(group, columns=["unit_id"])["unit_id"].to_pylist()
            some += names[: _LISTED - len(some)]
            if wanted.isdisjoint(names):
                continue
            rows = table.read_row_group(group).to_pylist()
            found.update({row["unit_id"]: row for row in rows if row["unit_id"] in wanted})
    for unit_id in ids:
        if unit_id not in found:
            raise UserError(f"there is no id '{unit_id}'{_why(folder, unit_id, some)}.")
    return [found[unit_id] for unit_id in ids]


_LISTED = 5


def _why(folder: Path, unit_id: str, some: Sequence[str]) -> str:
    skipped = folder / "skipped.parquet"
    if skipped.is_file():
        for row in pq.read_table(skipped).to_pylist():
            if row["unit_id"] == unit_id:
                return f" to be mapped: it was skipped when it was read ({row['reason']})"
    return f"; ids begin {', '.join(some)}"


def _map(
    stage: MapDocuments | MapTraces,
    work: Workdir,
    machine: Machine,
    rows: Sequence[dict[str, Any]],
    marked: Callable[[Any, dict[str, Any]], "Marked"],
    aggregation: Aggregation,
) -> None:
    from airlab.heads.mask import strongest_head
    from airlab.scoring.tokens import measure_tokens

    lm, mask = load_masked(work, machine, stage.model, stage.heads, stage.masking, stage.scoring)
    head = strongest_head(heads_file(work, stage.heads))
    reference = mask.reference(lm.device)
    texts = list(_marked(lm.tokenizer, rows, marked))
    total = sum(len(text.ids) for text in texts)
    if total > MOST_TOKENS:
        raise UserError(
            f"{total:,} tokens are too many for a page to be read; a page holds {MOST_TOKENS:,}: "
            "name fewer, or give a part of the text."
        )
    maps = []
    with progress("measuring tokens", "tokens", total) as advance:
        for row, text in zip(rows, texts, strict=True):
            numbers = measure_tokens(
                lm,
                reference,
                head,
                text.ids,
                window_tokens=stage.scoring.window_tokens,
                tokens_per_batch=machine.tokens_per_batch,
            )
            maps.append(_token_map(row["unit_id"], text, numbers, head, aggregation))
            advance(len(text.ids))
    with work.writing(_FILE) as path:
        path.write_text(
            json.dumps([shown.to_json() for shown in maps], ensure_ascii=False, separators=(",", ":")),
            encoding="utf-8",
        )
    work.note(maps=len(maps), tokens=total, head=head, masked_heads=[list(h) for h in mask.heads])


def _marked(
    tokenizer: Any, rows: Sequence[dict[str, Any]], marked: Callable[[Any, dict[str, Any]], "Marked"]
) -> Iterator["Marked"]:
    for row in rows:
        try:
            yield marked(tokenizer, row)
        except UserError as error:
            raise UserError(f"'{row['unit_id']}' has no token map: {error}") from None


def _token_map(
    name: str, text: "Marked", numbers: "TokenNumbers", head: tuple[int, int], aggregation: Aggregation
) -> TokenMap:
    """What was measured, with the sums that scoring makes of it."""
    import numpy as np

    from airlab.scoring.influence import attention_influence
    from airlab.scoring.losses import LossSums, check_finite
    from airlab.selection.aggregation import StepLosses, step_influence, trace_scores

    def sums(first: int, n_tokens: int) -> LossSums:
        inside = slice(first - 1, first - 1 + n_tokens)
        base, reference = (float(a[inside].sum(dtype=np.float64)) for a in (numbers.base, numbers.reference))
        return LossSums(n_tokens, base, reference, 0.0)

    first = text.steps[0].first_token if text.steps else 1
    whole = sums(first, len(text.ids) - first)
    check_finite([whole], lambda number: f"'{name}'")
    steps: tuple[StepScore, ...] = ()
    if text.steps:
        by_step = [sums(step.first_token, step.n_tokens) for step in text.steps]
        losses = StepLosses(
            np.array([name] * len(by_step)),
            np.array([s.n_tokens for s in by_step]),
            np.array([s.base for s in by_step]),
            np.array([s.reference for s in by_step]),
        )
        scores = step_influence(losses, aggregation.least_loss)
        steps = tuple(
            StepScore(step.first_token, s.n_tokens, s.base, s.reference, float(score))
            for step, s, score in zip(text.steps, by_step, scores, strict=True)
        )
        score = float(trace_scores(losses, aggregation)[1][0])
    else:
        score = float(attention_influence(np.array([whole.base]), np.array([whole.reference]))[0])
    return TokenMap(
        name=name,
        text=text.text,
        ends=text.ends,
        tokens=text.tokens,
        base=_exact(numbers.base),
        reference=_exact(numbers.reference),
        attended=tuple(numbers.attended.tolist()),
        head=head,
        windows=numbers.windows,
        all_tokens=len(text.ids),
        first_counted=first,
        n_tokens=whole.n_tokens,
        loss_sum_base=whole.base,
        loss_sum_ref=whole.reference,
        score=score,
        steps=steps,
    )


def _exact(losses: "np.ndarray") -> tuple[float, ...]:
    """Float32 values in as few digits as tell them apart."""
    return tuple(float(str(loss)) for loss in losses)
