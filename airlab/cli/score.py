"""`airlab score`: attention influence of the user's documents."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from airlab.cli.bind import bind
from airlab.cli.outputs import IDENTITY, already_there, check_output, open_store, write_output
from airlab.errors import UserError
from airlab.schema.base import Frozen
from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.schema.models import ModelSource
from airlab.schema.scoring import Scoring
from airlab.schema.text import Columns, HubDataset
from airlab.scoring.influence import attention_influence
from airlab.stages.import_corpus import ImportCorpus
from airlab.stages.inputs import model_input
from airlab.stages.measure_losses import MeasureLosses
from airlab.store.files import Files
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan


class Input(Frozen):
    """The user's documents: a local file or folder, or a data set on a hub, and its columns."""

    path: str | None
    hub: HubDataset | None
    text: str | None
    id: str | None
    domain: str | None
    default_domain: str


class ScoreCommand(Frozen):
    """What `configs/score.yaml` binds to."""

    model: ModelSource = Field(discriminator="kind")
    heads: str
    masking: Masking
    scoring: Scoring
    input: Input
    machine: Machine
    output: str


def import_stage(source: Input) -> ImportCorpus:
    """The stage that reads the user's documents."""
    columns = Columns(
        text=source.text, id=source.id, domain=source.domain, default_domain=source.default_domain
    )
    if (source.path is None) == (source.hub is None):
        raise UserError("give the documents as input=FILE (or a hub data set as input.hub), one of the two.")
    if source.hub is not None:
        return ImportCorpus.of_hub(source.hub, columns)
    return ImportCorpus.of_path(Path(source.path or ""), columns)


def run(config: Mapping[str, Any]) -> None:
    """Score every document and write the table."""
    command = bind(ScoreCommand, config)
    output = Path(command.output)
    check_output(output, ".parquet")
    heads = Path(command.heads)
    if not heads.is_file():
        raise UserError(f"heads={heads} does not exist; make it with `airlab heads output={heads}`.")
    corpus = import_stage(command.input)
    losses = MeasureLosses(
        model_input(command.model), Files.of(heads), command.masking, corpus, command.scoring
    )
    identity = fingerprint(losses)
    if already_there(output, identity):
        print(f"{output} is there already, made from the same documents, model, heads and settings.")
        return
    already_there(skipped_path(output), identity)
    store = open_store()
    Plan(store, [losses]).run(command.machine)
    folder, imported = store.folder(losses), store.folder(corpus)
    skipped = pa.concat_tables(pq.read_table(f / "skipped.parquet") for f in (imported, folder))
    table = user_table(pq.read_table(folder / "losses.parquet")).replace_schema_metadata({IDENTITY: identity})
    skipped = skipped.replace_schema_metadata({IDENTITY: identity})
    if table.num_rows == 0:
        raise UserError(f"none of the {skipped.num_rows} documents could be scored ({_reasons(skipped)}).")
    if skipped.num_rows:
        write_output(skipped_path(output), lambda path: pq.write_table(skipped, path))
    write_output(output, lambda path: pq.write_table(table, path))
    total = table.num_rows + skipped.num_rows
    print(f"{output}: {total} documents in, {table.num_rows} scored, {_why(skipped, output)}")


def skipped_path(output: Path) -> Path:
    """Where documents without a score are listed."""
    return output.with_name(f"{output.stem}.skipped.parquet")


def _why(skipped: pa.Table, output: Path) -> str:
    if not skipped.num_rows:
        return "0 skipped"
    return f"{skipped.num_rows} skipped ({_reasons(skipped)}; listed in {skipped_path(output)})"


def _reasons(skipped: pa.Table) -> str:
    counts = pc.value_counts(skipped["reason"]).to_pylist()
    return ", ".join(f"{c['counts']} {c['values']}" for c in counts)


def user_table(losses: pa.Table) -> pa.Table:
    """A LossTable in the user's terms: own ids, means in nats a token, and the score."""
    columns = {
        name: losses[name].to_numpy(zero_copy_only=False)
        for name in ("n_tokens", "loss_sum_base", "loss_sum_ref", "entropy_sum_base")
    }
    n = columns["n_tokens"].astype(np.float64)
    return pa.table(
        {
            "id": losses["unit_id"],
            "domain": losses["domain"],
            "n_tokens": losses["n_tokens"],
            "loss_base": columns["loss_sum_base"] / n,
            "loss_ref": columns["loss_sum_ref"] / n,
            "entropy": columns["entropy_sum_base"] / n,
            "attention_influence": attention_influence(columns["loss_sum_base"], columns["loss_sum_ref"]),
        }
    )
