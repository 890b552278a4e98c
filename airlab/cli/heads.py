"""`airlab heads`: a model's retrieval heads, best first."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.table import Table

from airlab.cli.bind import bind
from airlab.cli.outputs import IDENTITY, already_there, check_output, open_store, write_output
from airlab.heads.ranking import HeadRanking, read_ranking
from airlab.schema.base import Frozen
from airlab.schema.corpus import Corpus
from airlab.schema.heads import Detection, Probes
from airlab.schema.machine import Machine
from airlab.schema.models import ModelSource
from airlab.stages.detect_heads import DetectHeads
from airlab.stages.inputs import corpus_stage, model_input
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.terminal import visible

_SHOWN = 15


class HeadsCommand(Frozen):
    """What `configs/heads.yaml` binds to."""

    model: ModelSource = Field(discriminator="kind")
    corpus: Corpus = Field(discriminator="kind")
    probes: Probes
    detection: Detection
    machine: Machine
    output: str


def run(config: Mapping[str, Any]) -> None:
    """Detect heads and write the ranking."""
    command = bind(HeadsCommand, config)
    output = Path(command.output)
    check_output(output, ".json")
    stage = DetectHeads(
        model_input(command.model), corpus_stage(command.corpus), command.probes, command.detection
    )
    identity = fingerprint(stage)
    if already_there(output, identity):
        print(visible(f"{output} is there already, made from the same model, text and settings."))
        return
    store = open_store()
    Plan(store, [stage]).run(command.machine)
    found = store.open(stage) / "heads.json"

    def write(path: Path) -> None:
        data = {**json.loads(found.read_text()), IDENTITY: identity}
        path.write_text(json.dumps(data, indent=1) + "\n")

    write_output(output, write)
    _show(read_ranking(found))
    print(visible(f"{output}: {len(read_ranking(found).heads)} heads, best first"))


def _show(ranking: HeadRanking) -> None:
    table = Table("layer", "head", "retrieval score", "stderr", title="best heads", title_justify="left")
    for column in table.columns:
        column.justify = "right"
    for h in ranking.heads[:_SHOWN]:
        table.add_row(str(h.layer), str(h.head), f"{h.retrieval_score:.3f}", f"{h.stderr:.3f}")
    console = Console()
    console.print(table)
    console.print(
        f"{ranking.probes} probes; the model predicts {ranking.answer_accuracy:.0%} of the answers' tokens; "
        f"a head that looks anywhere scores {ranking.chance:.4f}; the two halves of the probes agree on "
        f"{ranking.split_half_overlap(0.05):.0%} of the top 5 % of heads"
    )
