"""`airlab score`: attention influence of the user's documents, traces, or steps of traces."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from airlab.cli.bind import bind
from airlab.cli.origin import ORIGIN, of_scores
from airlab.cli.outputs import (
    IDENTITY,
    UNIT,
    LeftOut,
    already_there,
    check_left_out,
    check_output,
    open_store,
    write_scored,
)
from airlab.errors import UserError
from airlab.schema.base import Frozen
from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.schema.models import ModelSource
from airlab.schema.scoring import Scoring
from airlab.schema.text import Columns, HubDataset
from airlab.schema.traces import (
    Aggregation,
    NamedTraceColumns,
    Rendering,
    Segmentation,
    TraceColumns,
    TraceSource,
)
from airlab.scoring.influence import attention_influence
from airlab.selection.aggregation import StepLosses, step_influence, sum_by_trace, trace_scores
from airlab.stages.import_corpus import ImportCorpus, ImportSoundCorpus
from airlab.stages.import_traces import ImportSoundTraces, ImportTraces
from airlab.stages.inputs import model_input, traces_stage
from airlab.stages.measure_losses import MeasureLosses
from airlab.stages.measure_steps import MeasureSteps, TooLong
from airlab.stages.prepare_model import Model
from airlab.store.files import Files
from airlab.store.fingerprint import canonical, fingerprint
from airlab.store.plan import Plan
from airlab.store.stage import Stage
from airlab.terminal import visible
from airlab.text.documents import SKIPPED_SCHEMA

_ROWS = 1 << 13
"""Documents in memory at once, when their losses are made a table of scores."""

_UNCERTAIN = pc.field("loss_sum_base") > 0
_CERTAIN = "predicted with certainty: nothing can be relative to a loss of zero"

_BUFFER_BYTES = 1 << 20


class Input(NamedTraceColumns):
    """The user's documents or traces: a local file or folder, or a data set on a hub, and its columns."""

    path: str | None
    hub: HubDataset | None
    text: str | None
    """The column of documents; all others but `id` and `domain` are of traces."""
    broken: Literal["refuse", "quarantine"]
    """What happens to a record that is broken by itself, such as a line that is not JSON: it ends the run, or
    is left out and listed beside the output."""

    def of_traces(self) -> TraceColumns:
        """The columns alone."""
        return TraceColumns(**{name: getattr(self, name) for name in TraceColumns.model_fields})


class ScoreCommand(Frozen):
    """What `configs/score.yaml` binds to."""

    unit: Literal["document", "trace", "step"]
    model: ModelSource = Field(discriminator="kind")
    heads: str
    masking: Masking
    scoring: Scoring
    rendering: Rendering
    segmentation: Segmentation
    aggregation: Aggregation
    too_long: TooLong
    traces: TraceSource | None = None
    input: Input
    machine: Machine
    output: str


def run(config: Mapping[str, Any]) -> None:
    """Score every unit and write the table."""
    command = bind(ScoreCommand, config)
    output = Path(command.output)
    check_output(output, ".parquet")
    heads = heads_file(command)
    check_settings(command)
    if command.unit == "document":
        _score_documents(command, heads, output)
    else:
        _score_traces(command, heads, output)


def heads_file(command: ScoreCommand) -> Path:
    """The file of heads. `UserError` if there is none."""
    heads = Path(command.heads)
    if not heads.is_file():
        raise UserError(f"heads={heads} does not exist; make it with `airlab heads output={heads}`.")
    return heads


def check_settings(command: ScoreCommand) -> None:
    """Refuse settings that would change nothing.

    Raises:
        UserError: a setting of traces for documents, or the other way round.
    """
    if command.unit != "document":
        if command.input.text is not None:
            raise UserError(
                f"input.text is the column of documents, and unit={command.unit} reads traces: name their "
                "columns, input.prompt and input.response, say."
            )
        if command.unit == "step" and command.aggregation.kind != "trace":
            raise UserError(
                f"aggregation={command.aggregation.kind} makes scores of traces out of their steps' and "
                "changes nothing with unit=step: give unit=trace, or leave it out."
            )
        return
    given = ["traces"] if command.traces is not None else []
    defaults = {"rendering": Rendering(), "segmentation": Segmentation(), "aggregation": Aggregation()}
    given += [name for name, default in defaults.items() if getattr(command, name) != default]
    given += ["too_long"] if command.too_long != "skip" else []
    for name, field in TraceColumns.model_fields.items():
        if name not in Columns.model_fields and getattr(command.input, name) != field.default:
            given.append(f"input.{name}")
    if given:
        raise UserError(
            f"{given[0]} is a setting of reasoning traces and changes nothing with unit=document: give "
            "unit=trace or unit=step, or leave it out."
        )


def _score_documents(command: ScoreCommand, heads: Path, output: Path) -> None:
    corpus = import_stage(command.input)
    losses = MeasureLosses(
        model_input(command.model), Files.of(heads), command.masking, corpus, command.scoring
    )
    identity = fingerprint(losses)
    if _is_there(output, identity, "documents"):
        return
    measured, left_out = _measured(command, losses, corpus, identity)
    facts = _facts(identity, command, losses.model)
    with pq.ParquetFile(measured, buffer_size=_BUFFER_BYTES) as file:
        certain = _certain(measured)
        left_out = replace(left_out, skipped=pa.concat_tables([left_out.skipped, certain]))
        scored = file.metadata.num_rows - certain.num_rows
        tables = (pa.Table.from_batches([batch]).filter(_UNCERTAIN) for batch in file.iter_batches(_ROWS))
        parts = (user_table(table) for table in tables if table.num_rows)
        write_scored(output, parts, facts, left_out, "documents")
    print(
        visible(f"{output}: {scored + left_out.count} documents in, {scored} scored, {left_out.told(output)}")
    )


def _score_traces(command: ScoreCommand, heads: Path, output: Path) -> None:
    traces = trace_stage(command)
    losses = MeasureSteps(
        model_input(command.model),
        Files.of(heads),
        command.masking,
        traces,
        command.rendering,
        command.segmentation,
        command.scoring,
        command.too_long,
    )
    identity = hashlib.sha256(canonical((losses, command.unit, command.aggregation))).hexdigest()
    if _is_there(output, identity, "traces"):
        return
    found, left_out = _measured(command, losses, traces, identity)
    measured = pq.read_table(found)
    store = open_store()
    if command.unit == "step":
        places = pq.read_table(store.open(losses) / "steps.parquet")
        table = step_table(measured, places, command.aggregation.least_loss)
    else:
        order = pq.read_table(store.open(traces) / "traces.parquet", columns=["unit_id", "order"])
        table = trace_table(measured, order, command.aggregation)
    write_scored(output, [table], _facts(identity, command, losses.model), left_out, "traces")
    scored = len(set(measured["parent_id"].to_pylist()))
    print(
        visible(
            f"{output}: {scored + left_out.count} traces in, {scored} scored in {measured.num_rows} steps, "
            f"{left_out.told(output)}"
        )
    )


def import_stage(source: Input) -> ImportCorpus:
    """The stage that reads the user's documents."""
    columns = Columns(
        text=source.text, id=source.id, domain=source.domain, default_domain=source.default_domain
    )
    if (source.path is None) == (source.hub is None):
        raise UserError("give the documents as input=FILE (or a hub data set as input.hub), one of the two.")
    kind = ImportCorpus if source.broken == "refuse" else ImportSoundCorpus
    if source.hub is not None:
        return kind.of_hub(source.hub, columns)
    return kind.of_path(Path(source.path or ""), columns)


def trace_stage(command: ScoreCommand) -> Stage:
    """The stage that reads the user's traces, or those with a name."""
    source = command.input
    if [source.path, source.hub, command.traces].count(None) != 2:
        raise UserError(
            "give the traces as input=FILE (or a hub data set as input.hub, or ones with a name as traces), "
            "one of the three."
        )
    if command.traces is not None:
        if source.broken != "refuse":
            raise UserError(
                f"input.broken={source.broken} is a setting of input and changes nothing with traces that "
                "have a name: leave it out, or give them as input."
            )
        return traces_stage(command.traces)
    kind = ImportTraces if source.broken == "refuse" else ImportSoundTraces
    if source.hub is not None:
        return kind.of_hub(source.hub, source.of_traces())
    return kind.of_path(Path(source.path or ""), source.of_traces())


def _certain(losses: Path) -> pa.Table:
    """Rows for the list of skipped documents: those that have losses and no score."""
    found = pq.read_table(losses, columns=["unit_id", "domain"], filters=~_UNCERTAIN)
    return found.append_column("reason", pa.repeat(_CERTAIN, found.num_rows)).cast(SKIPPED_SCHEMA)


def user_table(losses: pa.Table) -> pa.Table:
    """A LossTable in the user's terms: own ids, means in nats a token, and the score."""
    return pa.table(
        {
            "id": losses["unit_id"],
            "domain": losses["domain"],
            **_means(losses),
            "attention_influence": attention_influence(
                losses["loss_sum_base"].to_numpy(), losses["loss_sum_ref"].to_numpy()
            ),
        }
    )


def trace_table(losses: pa.Table, order: pa.Table, aggregation: Aggregation) -> pa.Table:
    """The same of traces, from the losses of their steps; with their curators' order where there is one."""
    traces = sum_by_trace(losses)
    columns = {
        "id": traces["unit_id"],
        "domain": traces["domain"],
        **_means(traces),
        "attention_influence": trace_scores(StepLosses.of_table(losses), aggregation)[1],
    }
    ranks = dict(zip(*(order[name].to_pylist() for name in ("unit_id", "order")), strict=True))
    found = [ranks[trace] for trace in traces["unit_id"].to_pylist()]
    if any(rank is not None for rank in found):
        columns["order"] = pa.array(found, pa.int64())
    return pa.table(columns)


def step_table(losses: pa.Table, places: pa.Table, least_loss: float) -> pa.Table:
    """The same of steps, and where they lie: characters of the response."""
    if not places["unit_id"].equals(losses["unit_id"]):
        raise RuntimeError("steps and their losses are not in one order")
    return pa.table(
        {
            "id": losses["unit_id"],
            "trace": losses["parent_id"],
            "step": places["step"],
            "start": places["start"],
            "end": places["end"],
            "domain": losses["domain"],
            **_means(losses),
            "attention_influence": step_influence(StepLosses.of_table(losses), least_loss),
        }
    )


def _means(losses: pa.Table) -> dict[str, Any]:
    n = losses["n_tokens"].to_numpy().astype(np.float64)
    return {
        "n_tokens": losses["n_tokens"],
        "loss_base": losses["loss_sum_base"].to_numpy() / n,
        "loss_ref": losses["loss_sum_ref"].to_numpy() / n,
        "entropy": losses["entropy_sum_base"].to_numpy() / n,
    }


def _is_there(output: Path, identity: str, what: str) -> bool:
    """Whether the very same output exists; refuses where something else would be overwritten."""
    if already_there(output, identity):
        print(visible(f"{output} is there already, made from the same {what}, model, heads and settings."))
        return True
    check_left_out(output, identity)
    return False


def _measured(command: ScoreCommand, losses: Stage, imported: Stage, identity: str) -> tuple[Path, LeftOut]:
    """The LossTable's file, and what was left out while reading or measuring."""
    store = open_store()
    Plan(store, [losses]).run(command.machine)
    folders = [store.open(imported), store.open(losses)]
    skipped = pa.concat_tables(pq.read_table(folder / "skipped.parquet") for folder in folders)
    quarantined = folders[0] / "quarantine.parquet"
    return (
        folders[1] / "losses.parquet",
        LeftOut(
            skipped.replace_schema_metadata({IDENTITY: identity}),
            _named(pq.read_table(quarantined), command.input.path).replace_schema_metadata(
                {IDENTITY: identity}
            )
            if quarantined.exists()
            else None,
        ),
    )


def _named(quarantined: pa.Table, path: str | None) -> pa.Table:
    """The table of broken records with the user's files; the artifact names them inside of a folder alone."""
    if path is None:
        return quarantined
    names = [str(Path(path, name) if name else path) for name in quarantined["file"].to_pylist()]
    return quarantined.set_column(0, "file", pa.array(names, pa.string()))


def _facts(identity: str, command: ScoreCommand, model: Model) -> dict[str, str]:
    """What a table of scores says of itself."""
    origin = of_scores(identity, command.unit, model, Path(command.heads), command.masking)
    return {IDENTITY: identity, UNIT: command.unit, ORIGIN: json.dumps(origin)}
