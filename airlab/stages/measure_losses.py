"""Measure every document's loss under the base model and the reference model: the LossTable."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.schema.scoring import Scoring
from airlab.stages.masked_model import heads_file, load_masked
from airlab.stages.prepare_model import Model
from airlab.stages.shards import Measuring, ShardedStage, measure_shards
from airlab.store.files import Files
from airlab.store.stage import Stage, Workdir
from airlab.text.documents import SKIPPED_SCHEMA, Shard, cut_into_shards

if TYPE_CHECKING:
    from airlab.scoring.losses import LossSums
    from airlab.text.tokens import Tokenized

SCHEMA = pa.schema(
    [
        ("unit_id", pa.string()),
        ("parent_id", pa.string()),
        ("domain", pa.string()),
        ("n_tokens", pa.int64()),
        ("loss_sum_base", pa.float64()),
        ("loss_sum_ref", pa.float64()),
        ("entropy_sum_base", pa.float64()),
    ]
)

_TOO_SHORT = "fewer than two tokens: nothing to predict"


@dataclass(frozen=True)
class MeasureLosses(ShardedStage):
    """The LossTable `losses.parquet`: sums and counts per document, in the corpus' order.

    Documents of fewer than two tokens have nothing to predict: they are listed in `skipped.parquet`.
    Resume unit: one shard of `machine.documents_per_shard` documents. Cost: one pass of the base model
    over the corpus and one of the reference model above the lowest masked layer.

    In each of `machine.processes` processes a thread reads and tokenizes up to two shards ahead of the one
    that is scored. Memory of a process besides the model's: four bytes a token of three shards, each with at
    most 64 MiB of text or a single row group; and what `tokenized_documents` takes.
    """

    VERSION: ClassVar[int] = 1
    KINDS: ClassVar[Mapping[str, pa.Schema]] = {"skipped": SKIPPED_SCHEMA, "losses": SCHEMA}
    UNITS: ClassVar[str] = "documents"
    model: Model
    heads: Stage | Files
    """A ranking's stage, or the user's own file of heads."""
    masking: Masking
    corpus: Stage
    scoring: Scoring

    def run(self, work: Workdir, machine: Machine) -> None:
        from airlab.heads.mask import read_mask

        if not work.has("losses.parquet"):
            mask = read_mask(heads_file(work, self.heads), self.masking.share_of_heads, self.masking.mode)
            work.note(masked_heads=[list(h) for h in mask.heads])
            measure_shards(work, self, machine)
        shutil.rmtree(work.path("shards"), ignore_errors=True)
        skipped = pq.read_metadata(work.path("skipped.parquet")).num_rows
        with pq.ParquetFile(work.path("losses.parquet")) as file:
            scored = file.metadata.num_rows
            tokens = sum(pc.sum(part["n_tokens"]).as_py() for part in file.iter_batches(columns=["n_tokens"]))
        if scored + skipped != pq.read_metadata(self.source(work)).num_rows:
            raise RuntimeError(f"{scored} scored and {skipped} skipped documents are not the corpus")
        work.note(scored=scored, skipped=skipped, tokens=tokens)

    def source(self, work: Workdir) -> Path:
        return work.input(self.corpus) / "documents.parquet"

    def cut(self, table: pq.FileMetaData, machine: Machine) -> list[Shard]:
        return cut_into_shards(table, machine.documents_per_shard)

    def measuring(self, work: Workdir, machine: Machine, table: pq.ParquetFile) -> Measuring:
        """See `ShardedStage`.

        Raises:
            UserError: as `load_masked` does.
        """
        from airlab.scoring.losses import measure_documents
        from airlab.text.tokens import tokenized_documents

        lm, mask = load_masked(work, machine, self.model, self.heads, self.masking, self.scoring)
        measure = partial(
            measure_documents,
            lm,
            mask.reference(lm.device),
            window_tokens=self.scoring.window_tokens,
            tokens_per_batch=machine.tokens_per_batch,
        )
        return Measuring(
            lambda shard: tokenized_documents(table, shard.groups, lm.tokenizer),
            lambda parts, advance: _tables(parts, partial(measure, advance=advance)),
        )


def _tables(
    parts: Sequence["Tokenized"], measure: Callable[[Sequence[np.ndarray]], Sequence["LossSums"]]
) -> dict[str, pa.Table]:
    """What was measured of a shard's documents, and what was skipped."""
    from airlab.scoring.losses import check_finite

    rows = pa.concat_tables([part.rows for part in parts])
    tokens = [ids for part in parts for ids in part.tokens]
    usable = pa.array([len(ids) > 1 for ids in tokens])
    sums = measure([ids for ids in tokens if len(ids) > 1])
    scored, short = rows.filter(usable), rows.filter(pc.invert(usable))
    measured = {
        "n_tokens": [s.n_tokens for s in sums],
        "loss_sum_base": [s.base for s in sums],
        "loss_sum_ref": [s.reference for s in sums],
        "entropy_sum_base": [s.entropy for s in sums],
    }
    check_finite(sums, lambda number: f"document {scored['unit_id'][number].as_py()}")
    unit_id, domain = scored["unit_id"], scored["domain"]
    losses = {"unit_id": unit_id, "parent_id": unit_id, "domain": domain, **measured}
    skipped = {
        "unit_id": short["unit_id"],
        "domain": short["domain"],
        "reason": pa.repeat(_TOO_SHORT, short.num_rows),
    }
    return {
        "skipped": pa.table(skipped, schema=SKIPPED_SCHEMA),
        "losses": pa.table(losses, schema=SCHEMA),
    }
