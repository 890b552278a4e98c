"""Training data of made-up traces, small enough to be trained on in a moment."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airlab.randomness import generator
from airlab.schema.machine import Machine
from airlab.schema.step_weights import RankWeights, StepWeights
from airlab.schema.traces import Rendering, Segmentation
from airlab.stages.build_training import BuildTraining
from airlab.stages.weigh_steps import WeighSteps
from airlab.store.files import Files
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store
from airlab.text.traces import Message, Trace, write_traces
from tests.unit.cli.model_folders import random_folder

COUNT = 60
CONTEXT = 64
WORDS = ("one", "and", "two", "so", "three")


def response(number: int) -> str:
    """Of one to three steps, each of one to three words."""
    draw = generator(number, "made response")
    steps = (" ".join(draw.choice(WORDS, draw.integers(1, 4))) for _ in range(draw.integers(1, 4)))
    return "\n\n".join(steps)


@dataclass(frozen=True)
class MadeTraces(Stage):
    """Sums in words; every character is a token of `random_folder`'s tokenizer."""

    VERSION: ClassVar[int] = 1
    count: int = COUNT

    def run(self, work: Workdir, machine: Machine) -> None:
        with work.writing("traces.parquet") as path:
            write_traces(
                path,
                [Trace(f"t{n}", "a", (Message("user", f"{n}?"),), response(n)) for n in range(self.count)],
            )


@dataclass(frozen=True)
class MadeScores(Stage):
    """Scores of the steps of `MadeTraces`: all the same, or any."""

    VERSION: ClassVar[int] = 1
    uniform: bool
    count: int = COUNT

    def run(self, work: Workdir, machine: Machine) -> None:
        rows = []
        for n in range(self.count):
            steps = response(n).split("\n\n")
            for k, step in enumerate(steps):
                # White space below a step is its own.
                n_tokens = len(step) + 2 * (k + 1 < len(steps))
                score = 1.0 if self.uniform else float(generator(n, "score", k).random())
                rows.append((f"t{n}#{k}", f"t{n}", "a", n_tokens, score))
        names = ["unit_id", "parent_id", "domain", "n_tokens", "score"]
        with work.writing("scores.parquet") as path:
            columns = [pa.array(column) for column in zip(*rows, strict=True)]
            pq.write_table(pa.table(columns, names=names), path)


@dataclass(frozen=True)
class MadeSelection(Stage):
    """A selection of these traces."""

    VERSION: ClassVar[int] = 1
    unit_ids: tuple[str, ...]

    def run(self, work: Workdir, machine: Machine) -> None:
        with work.writing("selection.parquet") as path:
            pq.write_table(pa.table({"unit_id": list(self.unit_ids)}), path)


def training(
    model: Path,
    scores: Stage | None = None,
    spec: StepWeights | None = None,
    selection: Stage | None = None,
    context: int = CONTEXT,
) -> BuildTraining:
    """The stage; weighted by rank where there are scores."""
    spec = spec or RankWeights(kind="rank")
    return BuildTraining(
        Files.of(model),
        MadeTraces(),
        Rendering(template="plain", separator=" "),
        Segmentation(),
        None if scores is None else WeighSteps(scores, selection, spec),
        selection,
        context,
        "skip",
    )


def built(stage: Stage, root: Path) -> Path:
    """The finished folder of a stage."""
    Plan(Store(root), [stage]).run(Machine())
    return Store(root).folder(stage)


def model_folder(folder: Path) -> Path:
    """A model whose tokens are characters."""
    return random_folder(folder, context=128)


def read_tokens(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and weights of training data."""
    return np.fromfile(folder / "tokens.bin", "<i4"), np.fromfile(folder / "weights.bin", "<f4")
