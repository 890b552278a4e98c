"""`airlab tokenize`: a corpus of Parquet files, on a hub or here, as memory-mapped files of token ids."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from airlab.cli.bind import bind
from airlab.cli.outputs import open_store
from airlab.errors import UserError
from airlab.schema.base import Frozen
from airlab.schema.corpus import Corpus, HubCorpus, PoolCorpus
from airlab.schema.machine import Machine
from airlab.schema.models import ModelSource
from airlab.selection.mixture import TOKENIZED
from airlab.stages.inputs import model_input
from airlab.stages.tokenize_shards import BYTES_PER_SHARD, TokenizeShards
from airlab.store.files import Files
from airlab.store.plan import Plan
from airlab.terminal import visible


class TokenizeCommand(Frozen):
    """What `configs/tokenize.yaml` binds to."""

    corpus: Corpus = Field(discriminator="kind")
    model: ModelSource = Field(discriminator="kind")
    machine: Machine


def run(config: Mapping[str, Any]) -> None:
    """Tokenize the corpus, or what is missing of it, and say where it lies."""
    command = bind(TokenizeCommand, config)
    stage = tokenize_stage(command)
    store = open_store()
    Plan(store, [stage]).run(command.machine)
    folder = store.open(stage)
    facts = json.loads((folder / TOKENIZED).read_text())
    print(
        visible(
            f"{folder}: {facts['n_tokens']:,} tokens of {facts['tokenized']:,} documents in "
            f"{len(facts['files'])} files; of {facts['in']:,} rows {_told(facts, 'skipped')} and "
            f"{_told(facts, 'quarantined')}"
        )
    )


def tokenize_stage(command: TokenizeCommand) -> TokenizeShards:
    """The stage of a command, the same that an experiment on that corpus and tokenizer has.

    Raises:
        UserError: the corpus is the pool, which is no table of anybody's.
    """
    corpus = command.corpus
    if isinstance(corpus, PoolCorpus):
        raise UserError(
            "the pool is tokenized by the experiments that need it; give corpus=local corpus.path=FOLDER, or "
            "a corpus of a hub."
        )
    source = corpus.hub if isinstance(corpus, HubCorpus) else Files.of(Path(corpus.path))
    return TokenizeShards(source, corpus.columns, model_input(command.model), BYTES_PER_SHARD)


def _told(facts: Mapping[str, Any], what: str) -> str:
    reasons = ", ".join(f"{reason}: {count:,}" for reason, count in facts[f"{what}_by_reason"].items())
    return f"{facts[what]:,} were {what}" + (f" ({reasons})" if reasons else "")
