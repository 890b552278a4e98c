"""Runs the pipeline's short stages over and over, killed at one file operation after another.

Usage: stage_killer.py FOLDER. Every attempt is a fork: SIGKILL at the n-th time that Python opens, makes or
renames something below the attempt's store, twice in a row, then a run to the end. Prints one JSON line:
how many kill points there were, and which of them led to other files than an undisturbed run.
"""

import hashlib
import importlib
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airlab.schema.evaluation import BitsPerByte, Copying, TaskSpec
from airlab.schema.machine import Machine
from airlab.schema.mixture import MixtureSpec
from airlab.schema.selection import Selecting
from airlab.selection.selectors import make_selector
from airlab.stages.build_mixture import BuildMixture, TokenizeCorpus
from airlab.stages.build_tasks import BuildTasks
from airlab.stages.measure_losses import SCHEMA as LOSSES
from airlab.stages.score_units import ScoreUnits
from airlab.stages.select_units import SelectUnits
from airlab.stages.train_tokenizer import TrainTokenizer
from airlab.store.plan import Plan
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store
from airlab.text.documents import Document, write_documents

LAZY = (
    "airlab.evaluation.tasks.build",
    "airlab.evaluation.tasks.files",
    "airlab.selection.mixture",
    "airlab.training.tokenizer",
    "airlab.store.provenance",
    "transformers.tokenization_utils_tokenizers",
)
EVENTS = {"open", "os.rename", "os.mkdir"}
EVERY = 5
"""Every fifth operation is a kill point: neighbours are the same file's."""


@dataclass(frozen=True)
class SmallCorpus(Stage):
    """Two dozen short documents, and as many held out."""

    VERSION: ClassVar[int] = 1

    def run(self, work: Workdir, machine: Machine) -> None:
        words = np.array(
            ["river", "stone", "music", "winter", "garden", "letter", "window", "silver", "bread", "north"]
        )
        for name, seed in (("documents", 0), ("heldout", 1)):
            draw = np.random.default_rng(seed)
            rows = [Document(f"{name}-{i}", "prose", " ".join(draw.choice(words, 60))) for i in range(24)]
            with work.writing(f"{name}.parquet") as path:
                write_documents(path, rows)


@dataclass(frozen=True)
class SmallLosses(Stage):
    """Losses of those documents, made up."""

    VERSION: ClassVar[int] = 1
    corpus: Stage

    def run(self, work: Workdir, machine: Machine) -> None:
        ids = pq.read_table(work.input(self.corpus) / "documents.parquet")["unit_id"].to_pylist()
        rows = [(u, u, "prose", 50, 100.0 + i, 120.0 + i * i, 90.0) for i, u in enumerate(ids)]
        with work.writing("losses.parquet") as path:
            pq.write_table(
                pa.table([pa.array(c) for c in zip(*rows, strict=True)], names=LOSSES.names).cast(LOSSES),
                path,
            )


def targets() -> list[Stage]:
    """The ends of the pipeline's short half."""
    corpus = SmallCorpus()
    tokenizer = TrainTokenizer(corpus, 300)
    scores = ScoreUnits(SmallLosses(corpus), corpus, make_selector({"kind": "attention_influence"}), seed=0)
    selection = SelectUnits(scores, Selecting())
    mixture = BuildMixture(
        TokenizeCorpus(corpus, tokenizer), selection, MixtureSpec(), budget_tokens=2048, context=64, seed=0
    )
    spec = TaskSpec(
        tasks=(
            BitsPerByte(items=4, domains=("prose",), max_bytes=128, min_bytes=64),
            Copying(items=4, words=6),
        ),
        minimum_items=2,
    )
    return [mixture, BuildTasks(corpus, spec, seed=0)]


def attempt(root: Path, kill_at: int | None) -> bool:
    """Run in a fork; True if it came to its end."""
    child = os.fork()
    if child == 0:
        seen = 0

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal seen
            if event in EVENTS and str(root) in str(arguments[0]):
                seen += 1
                if seen == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 (the process ends with it)
        Plan(Store(root), targets()).run(Machine())
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status) != 0:
        raise SystemExit(f"an attempt failed by itself, kill point {kill_at}")
    return os.WIFEXITED(status)


def contents(root: Path) -> dict[str, str]:
    """Every finished file's hash; records hold times and are left out."""
    files = (p for p in root.rglob("*") if p.is_file() and p.name != "record.json" and ".lease" not in p.name)
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def main() -> None:
    """See the module's docstring."""
    folder = Path(sys.argv[1])
    for module in LAZY:  # once, instead of in every fork
        importlib.import_module(module)
    assert attempt(folder / "undisturbed", None)
    expected = contents(folder / "undisturbed")
    points, wrong = 0, []
    for kill_at in range(1, 10_000, EVERY):
        root = folder / f"killed-{kill_at}"
        if attempt(root, kill_at):
            break
        points += 1
        attempt(root, EVERY)  # killed again, soon after it went on
        if not attempt(root, None) or contents(root) != expected:
            wrong.append(kill_at)
    print(json.dumps({"points": points, "files": len(expected), "wrong": wrong}))


if __name__ == "__main__":
    main()
