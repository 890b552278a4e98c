"""Section `end-to-end`: Parquet on disk to Parquet on disk, against the engine alone."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet as pq

from airlab.progress import announce
from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.schema.scoring import Scoring
from airlab.scoring.losses import measure_documents
from airlab.stages.measure_losses import MeasureLosses
from airlab.store.files import Files
from airlab.store.stage import Stage, Workdir
from airlab.store.store import Store
from airlab.text.documents import ROWS_PER_GROUP, Document, read_documents, write_documents
from airlab.text.tokens import encode_documents
from scorebench import inputs
from scorebench.clock import airlab_switches, release
from scorebench.options import Options
from scorebench.subjects import SHARE_OF_HEADS

_SIZES = {"rehearsal": (32, 300), "cuda": (ROWS_PER_GROUP, 127 * ROWS_PER_GROUP), "cpu": (8, 56)}
"""Documents of the short run, and how many more the long one has (`--count`)."""


@dataclass(frozen=True)
class Repeated(Stage):
    """A corpus of a wanted size: a table's documents, over and over, under new names."""

    VERSION: ClassVar[int] = 1
    documents: Files
    count: int

    def run(self, work: Workdir, machine: Machine) -> None:
        found = list(read_documents(self.documents.path))
        rows = (
            Document(f"{i}", found[i % len(found)].domain, found[i % len(found)].text)
            for i in range(self.count)
        )
        with work.writing("documents.parquet") as path:
            write_documents(path, rows)


def run(options: Options) -> dict[str, Any]:
    """Seconds of the stage over few documents and over many, and of the engine over the same ones.

    The difference of the two runs leaves out what every run pays once (loading the model, checking it);
    that is reported beside it.
    """
    model, heads, table = inputs.prepare(options)
    subject = inputs.subject(options, "SmolLM2-135M")
    start, count = _SIZES["rehearsal" if options.rehearsal else options.device]
    count = start + (options.count or count)
    scoring = Scoring(
        window_tokens=512 if options.rehearsal else 2048,
        precision="bfloat16" if options.device == "cuda" else "float32",
    )
    store = Store(options.scratch / "store")
    shutil.rmtree(store.root, ignore_errors=True)
    machine = options.machine()
    masking = Masking(share_of_heads=SHARE_OF_HEADS, mode="uniform")
    few, many = (Repeated(Files.of(table), n) for n in (start, count))

    def stage_s(corpus: Repeated) -> tuple[float, int]:
        """Seconds and predicted tokens of a fresh run."""
        stage = MeasureLosses(Files.of(model), Files.of(heads), masking, corpus, scoring)
        shutil.rmtree(store.root / stage.name, ignore_errors=True)
        start = time.perf_counter()
        folder = store.make(stage, machine)
        seconds = time.perf_counter() - start
        release(options.device, keep_compiled=True)
        return seconds, sum(
            pq.read_table(folder / "losses.parquet", columns=["n_tokens"])["n_tokens"].to_pylist()
        )

    for corpus in (few, many):
        store.make(corpus, machine)
    with airlab_switches(machine) as device:
        engine_s, engine_tokens, tokenizing_s = _engine(
            options, subject, store.folder(many) / "documents.parquet", scoring, device
        )
        stage_s(few)  # compiles
        few_s, few_tokens = stage_s(few)
        announce(f"{start} documents from disk to disk: {few_s:.1f} s")
        many_s, many_tokens = stage_s(many)
        announce(f"{count} documents from disk to disk: {many_s:.1f} s")
    engine_rate = engine_tokens / engine_s
    rate = (many_tokens - few_tokens) / (many_s - few_s)
    return {
        "subject": subject.facts(),
        "documents": count,
        "tokens": many_tokens,
        "window_tokens": scoring.window_tokens,
        "engine_tokens_per_second": engine_rate,
        "tokenizing_s": tokenizing_s,
        "few": {"documents": start, "tokens": few_tokens, "seconds": few_s},
        "whole": {"seconds": many_s, "tokens_per_second": many_tokens / many_s},
        "tokens_per_second": rate,
        "once_s": few_s - few_tokens / rate,
        "share_of_engine": rate / engine_rate,
    }


def _engine(
    options: Options, subject: Any, table: Path, scoring: Scoring, device: str
) -> tuple[float, int, float]:
    """Seconds and predicted tokens of the warm engine over tokens; seconds of tokenizing alone."""
    lm = subject.engine(device, options.dtype)
    reference = subject.reference(lm)
    start = time.perf_counter()
    documents = encode_documents(lm.tokenizer, [d.text for d in read_documents(table)])
    tokenizing_s = time.perf_counter() - start
    documents = [d for d in documents if len(d) > 1]

    def measure(some: Any) -> int:
        sums = measure_documents(
            lm,
            reference,
            some,
            window_tokens=scoring.window_tokens,
            tokens_per_batch=options.tokens_per_step,
        )
        return sum(s.n_tokens for s in sums)

    measure(documents[:ROWS_PER_GROUP])
    start = time.perf_counter()
    tokens = measure(documents)
    seconds = time.perf_counter() - start
    return seconds, tokens, tokenizing_s
