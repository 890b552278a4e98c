"""A corpus of sums with worked solutions, and a chat model that is asked for them, made in a moment."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from airlab.evaluation.tasks.files import Turns, write_tasks
from airlab.evaluation.tasks.worked import build_worked_tasks
from airlab.schema.evaluation import HELD_OUT, WorkedTaskSpec
from airlab.schema.machine import Machine
from airlab.schema.worked_problems import Split
from airlab.store.stage import Stage, Workdir
from airlab.text.traces import Message, Trace, write_traces
from tests.unit.text.made_chat import CHATML, chat_tokenizer

LEVELS = ("school", "formulas")
PER_LEVEL = 6
CONTEXT = 256


def trace(split: str, level: str, number: int) -> Trace:
    """A sum of three numbers; every problem of every split is another one."""
    first = 100 * HELD_OUT.index(split) + 10 * LEVELS.index(level) + number  # type: ignore[arg-type]
    steps = f"{first} + 2 = {first + 2}\n{first + 2} + 3 = {first + 5}\n"
    return Trace(
        f"{level}-{split}-{number}",
        level,
        (Message("user", f"Add: {first} and 2 and 3"),),
        f"{steps}Answer: {first + 5}",
        answer=str(first + 5),
        step_kinds=("clean", "clean", "answer"),
    )


def corpus() -> dict[Split, list[Trace]]:
    """The held-out parts."""
    return {s: [trace(s, level, n) for level in LEVELS for n in range(PER_LEVEL)] for s in HELD_OUT}


def generators() -> dict[str, str]:
    """Three problems of a generator, and never of two levels."""
    return {
        t.unit_id: f"{t.domain}-{int(t.unit_id.rpartition('-')[2]) // 3}"
        for some in corpus().values()
        for t in some
    }


@dataclass(frozen=True)
class MadeProblems(Stage):
    """What `BuildTraces` leaves."""

    VERSION: ClassVar[int] = 1
    copies: int = 1
    """Times that the pool has every problem."""

    def run(self, work: Workdir, machine: Machine) -> None:
        for split, traces in corpus().items():
            with work.writing(f"{split}.parquet") as path:
                write_traces(path, traces)
        with work.writing("traces.parquet") as path:
            write_traces(
                path,
                (
                    trace._replace(unit_id=f"{copy}-{trace.unit_id}" if copy else trace.unit_id)
                    for copy in range(self.copies)
                    for trace in corpus()["heldout"]
                ),
            )
        with work.writing("problems.parquet") as path:
            rows = [{"unit_id": unit_id, "task": task} for unit_id, task in generators().items()]
            pq.write_table(pa.Table.from_pylist(rows), path)


def spec(**changes: object) -> WorkedTaskSpec:
    """Few problems."""
    few = {
        "solved_items": 4,
        "likelihood_items": 5,
        "minimum_items": 3,
        "max_new_tokens": 12,
        "levels": LEVELS,
    }
    return WorkedTaskSpec.model_validate(few | changes)


def tasks_folder(folder: Path, asked: WorkedTaskSpec) -> Path:
    """As `BuildWorkedTasks` makes it."""
    folder.mkdir(parents=True)
    tasks = build_worked_tasks(corpus(), generators(), asked, 0)
    write_tasks(folder, tasks, Turns(asked.rendering, asked.max_new_tokens))
    return folder


def chat_folder(
    folder: Path, template: str | None = CHATML, *, start: bool = False, context: int = CONTEXT
) -> Path:
    """A random Llama with a chat tokenizer."""
    tokenizer = chat_tokenizer(template, start=start)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=context,
            tie_word_embeddings=True, initializer_range=0.3, bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
