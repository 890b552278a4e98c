"""A large corpus as token ids, from where it lies to memory-mapped files, by several processes."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airlab.progress import progress, waiting
from airlab.schema.machine import Machine
from airlab.schema.text import Columns, HubDataset
from airlab.stages.prepare_model import Model, model_folder
from airlab.stages.processes import in_processes
from airlab.store.files import Files
from airlab.store.stage import Stage, Workdir

if TYPE_CHECKING:
    from airlab.training.token_shards import ShardFacts, Source

BYTES_PER_SHARD = 256 << 20
"""Text of a shard, unless one row group alone has more: about 60M tokens, some minutes of one core."""

_PLAN = "shards/plan.json"


@dataclass(frozen=True)
class TokenizeShards(Stage):
    """`tokens-00000.bin` and on, `index.parquet`, `skipped.parquet`, `quarantine.parquet`, `tokenized.json`.

    What `TokenizeCorpus` makes of a corpus' documents, made of a hub's files as they lie there, or of local
    Parquet files: no copy of the text is kept. Every row is tokenized, skipped (it has no text) or
    quarantined (it is broken, or repeats an id).

    Resume unit: a shard, that is a range of row groups of one pinned file; no finished one is read again, and
    the bytes are the same for any number of processes. Memory of each: see `write_shard`.
    """

    VERSION: ClassVar[int] = 1

    source: HubDataset | Files
    columns: Columns
    tokenizer: Model
    bytes_per_shard: int

    def slug(self) -> str:
        """Such as `fineweb-edu-dedup`."""
        if isinstance(self.source, Files):
            return "local"
        return self.source.config or self.source.name.split("/")[-1]

    def run(self, work: Workdir, machine: Machine) -> None:
        """Tokenize the shards that are missing, and join their tables."""
        from airlab.selection.mixture import TOKENIZED

        if not work.has(TOKENIZED):
            self._tokenize(work, machine)
        shutil.rmtree(work.path("shards"), ignore_errors=True)

    def _tokenize(self, work: Workdir, machine: Machine) -> None:
        from airlab.stages.tokenizing_worker import FACTS, TokenizingJob, part_name
        from airlab.training.token_shards import ShardFacts
        from airlab.training.tokenizer import DocumentEncoder

        source = self._planned(work)
        encoder = DocumentEncoder(model_folder(work, self.tokenizer))
        job = TokenizingJob(
            source=source,
            tokenizer=encoder.to_json(),
            separator=encoder.separator,
            vocabulary_size=encoder.vocabulary_size,
            folder=str(work.folder),
        )
        missing = [part for part in source.ranges if not work.has(part_name(FACTS, part.number))]
        total, rest = (sum(part.rows for part in some) for some in (source.ranges, missing))
        processes = min(machine.processes, max(1, len(missing)))
        with progress("tokenizing", "documents", total, before=total - rest) as advance:
            tasks = [part.model_dump_json() for part in missing]
            module = "airlab.stages.tokenizing_worker"
            threads = {"RAYON_NUM_THREADS": _threads(processes), "TOKENIZERS_PARALLELISM": "true"}
            for _ in in_processes(module, job.model_dump_json(), tasks, processes, advance, threads):
                work.save_attempt()
        facts = [
            ShardFacts.model_validate_json(work.path(part_name(FACTS, part.number)).read_text())
            for part in source.ranges
        ]
        with waiting("joining the shards' tables"):
            self._join(work, job, facts)

    def _planned(self, work: Workdir) -> "Source":
        """The shards: cut when the first attempt begins, and held to by those that continue it."""
        from airlab.text.pinned_files import check_same, hub_files, local_files, with_footers
        from airlab.text.row_ranges import Group, cut_into_ranges
        from airlab.training.token_shards import Source

        hub = self.source if isinstance(self.source, HubDataset) else None
        where, listed = hub_files(hub) if hub else local_files(self._path())
        if work.has(_PLAN):
            earlier = Source.model_validate_json(work.path(_PLAN).read_text())
            check_same(where, listed, earlier.files)
            return earlier.model_copy(update={"where": where})
        files = []
        with progress("reading footers", "files", len(listed)) as advance:

            def groups() -> Iterator[list[Group]]:
                for file, held in with_footers(where, listed, self.columns):
                    files.append(file)
                    advance(1)
                    yield held

            ranges = cut_into_ranges(groups(), self.bytes_per_shard, hub.max_documents if hub else None)
        source = Source(where=where, files=tuple(files), ranges=tuple(ranges), columns=self.columns)
        with work.writing(_PLAN) as path:
            path.write_text(source.model_dump_json())
        return source

    def _path(self) -> Path:
        assert isinstance(self.source, Files)
        return self.source.path

    def _join(self, work: Workdir, job: Any, facts: "Sequence[ShardFacts]") -> None:
        from airlab.selection.mixture import TOKENIZED
        from airlab.stages.tokenizing_worker import part_name, tokens_name
        from airlab.training.token_shards import IDS, KINDS, join_shards

        source: Source = job.source
        shards = [
            (part, told, {kind: work.path(part_name(kind, part.number)) for kind in (*KINDS, IDS)})
            for part, told in zip(source.ranges, facts, strict=True)
        ]
        with ExitStack() as stack:
            tables = {kind: stack.enter_context(work.writing(f"{kind}.parquet")) for kind in KINDS}
            counts = join_shards(source, shards, tables)
        encoder = job.encoder()
        told = {
            **counts,
            "separator": encoder.separator,
            "vocabulary_size": encoder.vocabulary_size,
            "dtype": encoder.dtype.str,
            "files": {tokens_name(part.number): one.file_tokens for part, one, _ in shards},
            "sources": [file.model_dump() for file in source.files],
        }
        with work.writing(TOKENIZED) as path:
            path.write_text(json.dumps(told, indent=1) + "\n")
        work.note(**counts)


def _threads(processes: int) -> str:
    """What each process may use of the cores there are, unless the user said."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return os.environ.get("RAYON_NUM_THREADS", str(max(1, cores // processes)))
