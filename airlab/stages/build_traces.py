"""A corpus of worked problems whose every step is of a known kind, out of generators."""

import json
from dataclasses import dataclass
from typing import ClassVar

from airlab.progress import progress
from airlab.schema.machine import Machine
from airlab.schema.worked_problems import SPLITS, WorkedProblems
from airlab.store.stage import Stage, Workdir


@dataclass(frozen=True)
class BuildTraces(Stage):
    """``traces.parquet`` (the pool), and of clean solutions ``heldout.parquet``, ``harder.parquet`` and
    ``unseen.parquet``, all in one schema; ``problems.parquet`` (generator, difficulty and variant of each);
    ``skipped.parquet`` (each problem drawn and not used, and why) and ``manifest.json``.

    Raise VERSION with any change to what is drawn, how it is checked, spoilt or worded.
    """

    VERSION: ClassVar[int] = 1

    spec: WorkedProblems

    def slug(self) -> str:
        """Such as `worked-3000`."""
        return f"worked-{self.spec.traces_per_level * len(self.spec.levels)}"

    def run(self, work: Workdir, machine: Machine) -> None:
        """Find the generators that fit, draw, check, split, spoil."""
        from airlab.text.documents import TableWriter, write_skipped
        from airlab.text.traces import write_traces
        from airlab.text.worked.corpus import PROBLEMS_SCHEMA, build_corpus

        total = sum(self.spec.asked(split) for split in SPLITS) * len(self.spec.levels)
        with progress("worked problems", "traces", total) as advance:
            corpus = build_corpus(self.spec, advance)
        written = sum(map(len, corpus.traces.values()))
        if written + len(corpus.skipped) != corpus.drawn:
            raise RuntimeError(f"{written} traces and {len(corpus.skipped)} skipped of {corpus.drawn} drawn")
        for split, traces in corpus.traces.items():
            with work.writing(f"{split}.parquet") as path:
                write_traces(path, traces)
        with (
            work.writing("problems.parquet") as path,
            TableWriter(path, PROBLEMS_SCHEMA) as writer,
        ):
            for origin in corpus.origins:
                writer.add(origin.row())
        with work.writing("skipped.parquet") as path:
            write_skipped(path, corpus.skipped)
        with work.writing("manifest.json") as path:
            path.write_text(json.dumps(corpus.manifest, indent=1) + "\n")
        work.note(traces=len(corpus.traces["traces"]), written=written, skipped=len(corpus.skipped))
