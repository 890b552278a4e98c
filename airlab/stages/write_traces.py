"""Reasoning traces whose answers a teacher writes."""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyarrow.parquet as pq

from airlab.errors import UserError
from airlab.progress import progress
from airlab.schema.machine import Machine
from airlab.schema.traces import Rendering
from airlab.schema.writing import Writing
from airlab.stages.prepare_model import Model, model_folder
from airlab.stages.shards import remove_other_shards, shard_name
from airlab.store.stage import Stage, Workdir
from airlab.text.documents import Shard, Skipped, cut_into_shards, write_skipped

_KINDS = ("skipped", "traces")
"""Tables of a shard; the last one's shard says that the other's is there."""


@dataclass(frozen=True)
class WriteTraces(Stage):
    """`traces.parquet` with the prompts of other traces and a teacher's answers, one row an answer.

    Answers that are not kept are listed in `skipped.parquet`, with the reason: traces times samples are those
    written and those skipped; `manifest.json` counts. With several samples, answer n of a trace is called
    `<trace>~<n>`. Every answer has randomness of its own, by trace and number: neither order nor batch nor
    an interruption changes what is drawn, but for rounding. A shard of prompts is the unit of resume.
    """

    VERSION: ClassVar[int] = 1

    teacher: Model
    traces: Stage
    """Whose prompts are answered (BuildTraces, ImportTraces)."""
    rendering: Rendering
    """How the teacher is asked."""
    writing: Writing

    def slug(self) -> str:
        """Such as `greedy` or `4-samples`."""
        return "greedy" if self.writing.temperature is None else f"{self.writing.samples}-samples"

    def run(self, work: Workdir, machine: Machine) -> None:
        """Write what is missing, shard by shard, and put the shards together.

        Raises:
            UserError: the teacher cannot be loaded or asked, or none of its answers is kept.
        """
        if not work.has("manifest.json"):
            with pq.ParquetFile(work.input(self.traces) / "traces.parquet") as file:
                shards = cut_into_shards(file.metadata, machine.documents_per_shard, column=None)
                self._write(work, machine, file, shards)
            self._merge(work, shards)
        shutil.rmtree(work.path("shards"), ignore_errors=True)

    def _write(self, work: Workdir, machine: Machine, file: pq.ParquetFile, shards: Sequence[Shard]) -> None:
        from airlab.evaluation.teacher import Teacher
        from airlab.text.traces import traces_of_group, write_traces

        remove_other_shards(work, _KINDS, shards)
        missing = [shard for shard in shards if not work.has(shard_name("traces", shard))]
        if not missing:
            return
        teacher = Teacher(model_folder(work, self.teacher), self.rendering, self.writing, machine)
        asked, rest = (self.writing.samples * sum(s.documents for s in some) for some in (shards, missing))
        with progress("writing", "answers", asked, before=asked - rest) as advance:
            for shard in missing:
                traces = [trace for group in shard.groups for trace in traces_of_group(file, group)]
                written, skipped = teacher.answers(traces, advance)
                with work.writing(shard_name("skipped", shard)) as path:
                    write_skipped(path, skipped)
                with work.writing(shard_name("traces", shard)) as path:
                    write_traces(path, written)

    def _merge(self, work: Workdir, shards: Sequence[Shard]) -> None:
        from airlab.text.traces import read_traces, write_traces

        files = {kind: [work.path(shard_name(kind, shard)) for shard in shards] for kind in _KINDS}
        skipped = [Skipped(**row) for path in files["skipped"] for row in pq.read_table(path).to_pylist()]
        reasons = Counter(row.reason for row in skipped)
        with work.writing("traces.parquet") as path:
            count = write_traces(path, (trace for shard in files["traces"] for trace in read_traces(shard)))
            if not count:
                raise UserError(
                    f"none of the teacher's answers is kept ({_most(reasons)}): take another teacher, or "
                    "another way of writing."
                )
        with work.writing("skipped.parquet") as path:
            write_skipped(path, skipped)
        asked = self.writing.samples * sum(shard.documents for shard in shards)
        if count + len(skipped) != asked:
            raise RuntimeError(f"{count} answers and {len(skipped)} skipped are not {asked}")
        facts = {
            "in": asked,
            "traces": count,
            "skipped": len(skipped),
            "skipped_by_reason": dict(sorted(reasons.items())),
        }
        work.note(**facts)
        with work.writing("manifest.json") as path:
            path.write_text(json.dumps(facts, indent=1) + "\n")


def _most(reasons: Counter[str]) -> str:
    return reasons.most_common(1)[0][0] if reasons else "there are no prompts"
