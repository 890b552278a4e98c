"""`airlab export`: what was selected, or trained, in the form that somebody else's program reads.

Documents come with all their columns and their scores, in the order of the input. What a cell of an
experiment holds, `airlab.cli.cells` knows.
"""

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, PositiveInt

from airlab.cli.bind import bind
from airlab.cli.cells import Cell, export_checkpoint, open_cell, selection_of
from airlab.cli.origin import origin_of
from airlab.cli.outputs import check_place, open_store, write_output
from airlab.cli.scores_in import check_columns, read_table
from airlab.errors import UserError
from airlab.progress import track
from airlab.reporting.cards import Selection, data_card
from airlab.reporting.loading import loading
from airlab.schema.base import Frozen
from airlab.schema.machine import Machine
from airlab.schema.models import ModelSource
from airlab.schema.text import HubDataset
from airlab.stages.inputs import model_input
from airlab.store.files import Files
from airlab.store.plan import Plan
from airlab.store.provenance import provenance
from airlab.terminal import visible
from airlab.text.exporting import schema_of, schema_with, write_dataset, write_jsonl, write_parquet
from airlab.text.records import is_text
from airlab.text.whole import Chosen, Counts, Whole, open_hub, open_whole

FolderFormat = Literal["dataset", "torchtitan", "nanogpt", "olmo", "checkpoint"]

FILES = (".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst")

_SELECTED: dict[str, Callable[[pa.DataType], bool]] = {
    "id": is_text,
    "domain": is_text,
    "n_tokens": pa.types.is_integer,
    "score": pa.types.is_floating,
}


class ExportInput(Frozen):
    """What was scored, and its columns as they were named then."""

    path: str | None
    hub: HubDataset | None
    id: str | None
    text: str | None


class ExportCommand(Frozen):
    """What `configs/export.yaml` binds to."""

    model: ModelSource = Field(discriminator="kind")
    input: ExportInput
    selected: str | None
    cell: str | None
    settings: str
    results: str
    format: FolderFormat | None
    score_column: Annotated[str, Field(min_length=1)]
    val_share: Annotated[float, Field(gt=0, lt=1)]
    tokens_per_file: PositiveInt
    output: str


@dataclass(frozen=True)
class Given:
    """Documents and which of them were selected, from wherever they come."""

    whole: Whole
    selection: pa.Table
    """`id`, `domain`, `n_tokens` and `score`."""
    origin: Mapping[str, Any] | None
    id: str | None
    text: str | None


@dataclass(frozen=True)
class Documents:
    """The selected documents, read from the start as often as is needed; `counts` are of the last time."""

    whole: Whole
    chosen: Chosen
    counts: Counts

    def pairs(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Ids and records, with progress."""
        records = self.chosen.records(self.whole, self.counts)
        yield from track(records, label="exporting", unit="documents", total=len(self.chosen.scores))

    def records(self) -> Iterator[dict[str, Any]]:
        """Records alone."""
        return (record for _, record in self.pairs())

    def texts(self) -> Iterator[tuple[str, str]]:
        """Ids and texts."""
        return ((unit_id, record[self.text_column(record)]) for unit_id, record in self.pairs())

    def text_column(self, record: Mapping[str, Any]) -> str:
        """The column that holds a record's text."""
        return self.chosen.text_column(record, self.whole.name)

    def schema(self) -> pa.Schema:
        """The columns' types: the input's own, or such as hold all values, which takes a pass of its own."""
        if self.whole.schema is not None:
            return schema_with(self.whole.schema, self.chosen.score_column)
        return schema_of(record for _, record in self.chosen.records(self.whole, Counts()))


def run(config: Mapping[str, Any]) -> None:
    """Write what is asked for, whole or not at all."""
    command = bind(ExportCommand, config)
    output = Path(command.output)
    form = _form(output, command.format)
    check_place(output)
    if output.exists():
        raise UserError(f"{output} already exists; choose another output or delete it.")
    cell = None if command.cell is None else open_cell(command.cell, shlex.split(command.settings))
    _check_settings(command, form)
    if form == "checkpoint":
        assert cell is not None
        export_checkpoint(cell, output, Path(command.results), made_by())
        return
    given = _of_files(command) if cell is None else _of_cell(cell)
    _export_documents(command, form, given, output)


def _form(output: Path, chosen: FolderFormat | None) -> str:
    """A file's ending, or the folder's format."""
    ending = next((e for e in sorted(FILES, key=len, reverse=True) if output.name.endswith(e)), None)
    if ending is None and chosen is None:
        raise UserError(
            f"output={output} does not say what to write: give a file that ends in {', '.join(FILES)}, or a "
            "folder with format=dataset, torchtitan, nanogpt, olmo or checkpoint."
        )
    if ending is not None and chosen is not None:
        raise UserError(
            f"format={chosen} is a folder, and output={output} ends in {ending}: give one of them."
        )
    return ending or str(chosen)


def _check_settings(command: ExportCommand, form: str) -> None:
    """Refuse what contradicts itself, or would change nothing.

    Raises:
        UserError: see there.
    """
    files = [name for name in ("path", "hub", "id", "text") if getattr(command.input, name) is not None]
    if command.cell is not None and (files or command.selected is not None):
        raise UserError("cell names its own documents and selection: leave out input and selected.")
    if command.cell is None and command.settings:
        raise UserError(
            "settings are those of a cell's run and change nothing without one: give cell=... too."
        )
    if command.cell is None and form == "checkpoint":
        raise UserError("format=checkpoint is of an experiment's cell: give it, cell=PAPER/EXPERIMENT/....")
    if command.cell is None and (
        command.selected is None or (command.input.path or command.input.hub) is None
    ):
        raise UserError(
            "give what was scored and what was selected of it, input=FILE selected=selected.parquet, or a "
            "cell of an experiment."
        )
    if command.input.path is not None and command.input.hub is not None:
        raise UserError("give the documents as input=FILE (or a hub data set as input.hub), one of the two.")


def _of_files(command: ExportCommand) -> Given:
    selected, made_by = Path(command.selected or ""), "give a table made by `airlab select`"
    if not selected.is_file():
        raise UserError(
            f"selected={selected} does not exist; make it with `airlab select output={selected}`."
        )
    table = read_table(selected, made_by)
    check_columns(selected, table, _SELECTED, made_by)
    source = command.input
    return Given(
        open_whole(Path(source.path)) if source.path is not None else open_hub(_hub(source)),
        table.select(list(_SELECTED)),
        origin_of(selected),
        source.id,
        source.text,
    )


def _hub(source: ExportInput) -> HubDataset:
    assert source.hub is not None
    return source.hub


def _of_cell(cell: Cell) -> Given:
    documents, selection, origin = selection_of(cell)
    table = pq.read_table(selection).rename_columns({"unit_id": "id"})
    return Given(open_whole(documents), table.select(list(_SELECTED)), origin, "unit_id", "text")


def _export_documents(command: ExportCommand, form: str, given: Given, output: Path) -> None:
    scores: dict[str, float] = {}
    for unit_id, score in zip(*(given.selection[c].to_pylist() for c in ("id", "score")), strict=True):
        if unit_id in scores:
            raise UserError(f"the selection holds the id '{unit_id}' more than once: select again.")
        scores[unit_id] = score
    if not scores:
        raise UserError("the selection is empty: select a larger share.")
    chosen = Chosen(scores, command.score_column, given.id, given.text)
    documents = Documents(given.whole, chosen, counts := Counts())

    def write(path: Path) -> None:
        if form == ".parquet":
            write_parquet(path, documents.schema(), documents.records())
        elif form in FILES:
            write_jsonl(path, form, documents.records())
        else:
            path.mkdir()
            how, data_files = _write_folder(command, form, path, documents)
            card = data_card(_selection(output.name, given, counts), how, data_files)
            (path / "README.md").write_text(card, encoding="utf-8")

    write_output(output, write)
    broken = f", {counts.broken} broken" if counts.broken else ""
    told = f"{counts.exported} of {counts.given} documents ({counts.not_selected} not selected{broken})"
    print(visible(f"{output}: {told}"))


def _write_folder(
    command: ExportCommand, form: str, folder: Path, documents: Documents
) -> tuple[str, str | None]:
    """Fill the folder; returns how it is read, and which of its files a hub shows as a data set."""
    if form == "dataset":
        write_dataset(folder, documents.schema(), documents.records())
        return loading(form, {}), "data-*.arrow"
    if form == "torchtitan":
        names = set[str]()

        def with_texts() -> Iterator[dict[str, Any]]:
            for record in documents.records():
                names.add(documents.text_column(record))
                yield record

        write_jsonl(folder / "documents.jsonl", ".jsonl", with_texts())
        if len(names) > 1:
            raise UserError(f"the text is in several columns, {', '.join(sorted(names))}: set input.text.")
        return loading(form, {"text": names.pop()}), "documents.jsonl"
    from airlab.training.token_files import Encoder, write_nanogpt, write_olmo

    encoder = Encoder(_tokenizer(command.model))
    if form == "nanogpt":
        ids = documents.chosen.scores.keys()
        facts = write_nanogpt(folder, documents.texts(), ids, encoder, command.val_share)
    else:
        facts = write_olmo(folder, documents.texts(), encoder, command.tokens_per_file)
    return loading(form, facts), None


def _tokenizer(source: ModelSource) -> Any:
    from airlab.models.load import load_tokenizer

    model, store = model_input(source), open_store()
    if isinstance(model, Files):
        return load_tokenizer(model.path)
    Plan(store, [model]).run(Machine())
    return load_tokenizer(store.folder(model))


def _selection(name: str, given: Given, counts: Counts) -> Selection:
    table = given.selection.group_by("domain").aggregate([("n_tokens", "count"), ("n_tokens", "sum")])
    domains = {r["domain"]: (r["n_tokens_count"], r["n_tokens_sum"]) for r in table.to_pylist()}
    return Selection(
        name,
        counts.given,
        counts.broken,
        domains,
        given.origin,
        counts.licences,
        counts.sources,
        made_by(),
    )


def made_by() -> str:
    """airlab's version and commit."""
    facts = provenance()
    commit = (facts["git"] or {}).get("commit")
    return f"airlab {facts['packages'].get('airlab', 'from a checkout')}" + (
        f" at {commit}" if commit else ""
    )
