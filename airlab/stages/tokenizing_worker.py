"""A process that tokenizes shards: `python -m airlab.stages.tokenizing_worker`, started by `in_processes`."""

import json
import os
import queue
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from airlab.errors import UserError
from airlab.lifeline import lines_of_input
from airlab.schema.base import Frozen
from airlab.store.durable import written
from airlab.text.row_ranges import RowRange
from airlab.training.text_encoder import TextEncoder
from airlab.training.token_shards import IDS, KINDS, ShardFacts, Source, write_shard

FOLDER = "shards"


class TokenizingJob(Frozen):
    """What a process needs to know once."""

    source: Source
    tokenizer: str
    separator: int
    vocabulary_size: int
    folder: str
    """The stage's unfinished one."""

    def encoder(self) -> TextEncoder:
        """As it was when `to_json` made it text."""
        return TextEncoder(Tokenizer.from_str(self.tokenizer), self.separator, self.vocabulary_size)


def tokens_name(number: int) -> str:
    """The file of a shard's ids."""
    return f"tokens-{number:05d}.bin"


def part_name(kind: str, number: int) -> str:
    """The file of one of a shard's tables, or of its facts, which are written last."""
    return f"{FOLDER}/{kind}-{number:05d}"


FACTS = "facts"


def tokenize(job: TokenizingJob, encoder: TextEncoder, part: RowRange, advance: Any) -> ShardFacts:
    """Write the files of one shard, each whole or not at all."""
    folder = Path(job.folder)
    with ExitStack() as stack:
        tokens = stack.enter_context(written(folder / tokens_name(part.number)))
        kinds = (*KINDS, IDS)
        tables = {k: stack.enter_context(written(folder / part_name(k, part.number))) for k in kinds}
        facts = write_shard(job.source, part, encoder, tokens, tables, advance)
    with written(folder / part_name(FACTS, part.number)) as path:
        path.write_text(facts.model_dump_json())
    return facts


def main() -> None:
    """Tokenize what is asked for until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print is no answer

    def answer(**reply: Any) -> None:
        answers.write(json.dumps(reply) + "\n")
        answers.flush()

    asked: queue.SimpleQueue[str] = queue.SimpleQueue()
    lines_of_input(asked.put, lambda: os._exit(0))
    job = TokenizingJob.model_validate_json(asked.get())
    encoder = job.encoder()
    while True:
        try:
            part = RowRange.model_validate_json(asked.get())
            answer(result=tokenize(job, encoder, part, lambda rows: answer(done=rows)).model_dump())
        except UserError as mistake:
            answer(mistake=str(mistake))


if __name__ == "__main__":
    main()
