"""Measure every document's loss under the base model and the reference model: the LossTable."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from airlab.errors import UserError
from airlab.progress import progress
from airlab.schema.heads import Masking
from airlab.schema.machine import Machine
from airlab.schema.scoring import Scoring
from airlab.stages.prepare_model import Model, model_folder
from airlab.store.files import Files
from airlab.store.stage import Stage, Workdir
from airlab.text.documents import SKIPPED_SCHEMA

if TYPE_CHECKING:
    from airlab.heads.mask import HeadMask
    from airlab.models.load import CausalLM

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


@dataclass(frozen=True)
class MeasureLosses(Stage):
    """The LossTable `losses.parquet`: sums and counts per document, in the corpus' order.

    Documents of fewer than two tokens have nothing to predict: they are listed in `skipped.parquet`.
    Resume unit: one shard (row group) of the corpus. Cost: one pass of the base model over the corpus
    and one of the reference model above the lowest masked layer.
    """

    VERSION: ClassVar[int] = 1
    model: Model
    heads: Stage | Files
    """A ranking's stage, or the user's own file of heads."""
    masking: Masking
    corpus: Stage
    scoring: Scoring

    def run(self, work: Workdir, machine: Machine) -> None:
        from airlab.heads.mask import read_mask
        from airlab.models.device import DTYPES, use_device
        from airlab.models.exactness import check_exactness
        from airlab.models.load import load_causal_lm
        from airlab.text.documents import read_row_group, row_groups

        if not work.has("losses.parquet"):
            heads = (
                self.heads.path if isinstance(self.heads, Files) else work.input(self.heads) / "heads.json"
            )
            mask = read_mask(heads, self.masking.share_of_heads, self.masking.mode)
            lm = load_causal_lm(
                model_folder(work, self.model),
                device=use_device(machine),
                dtype=DTYPES[self.scoring.precision],
            )
            mask.check(lm.geometry, lm.digest)
            if self.scoring.window_tokens > lm.geometry.context:
                raise UserError(
                    f"scoring.window_tokens={self.scoring.window_tokens} exceeds the model's context of "
                    f"{lm.geometry.context} tokens; set it to that or less."
                )
            check_exactness(lm)
            documents = work.input(self.corpus) / "documents.parquet"
            count, total = row_groups(documents), pq.read_metadata(documents).num_rows
            with progress("scoring", "documents", total) as advance:
                for shard in range(count):
                    self._shard(work, machine, lm, mask, shard, read_row_group(documents, shard), advance)
            work.note(masked_heads=[list(h) for h in mask.heads])
            _merge(work, "skipped", count, SKIPPED_SCHEMA)
            _merge(work, "losses", count, SCHEMA)
        shutil.rmtree(work.path("shards"), ignore_errors=True)
        scored = pq.read_table(work.path("losses.parquet"), columns=["n_tokens"])["n_tokens"].to_numpy()
        work.note(
            scored=len(scored),
            skipped=pq.read_metadata(work.path("skipped.parquet")).num_rows,
            tokens=int(scored.sum()),
        )

    def _shard(
        self,
        work: Workdir,
        machine: Machine,
        lm: "CausalLM",
        mask: "HeadMask",
        shard: int,
        table: pa.Table,
        advance: Callable[[float], None],
    ) -> None:
        from airlab.scoring.losses import measure_documents
        from airlab.text.tokens import encode_documents

        names = [f"shards/{kind}-{shard:06d}.parquet" for kind in ("losses", "skipped")]
        if work.has(names[0]):
            advance(table.num_rows)
            return
        rows = table.select(["unit_id", "domain", "text"]).to_pylist()
        encoded = encode_documents(lm.tokenizer, [r["text"] for r in rows])
        usable = [(row, ids) for row, ids in zip(rows, encoded, strict=True) if len(ids) > 1]
        short = [row for row, ids in zip(rows, encoded, strict=True) if len(ids) <= 1]
        sums = measure_documents(
            lm,
            mask.reference(lm.device),
            [ids for _, ids in usable],
            window_tokens=self.scoring.window_tokens,
            tokens_per_batch=machine.tokens_per_batch,
            advance=advance,
        )
        advance(len(short))
        losses = [
            (r["unit_id"], r["unit_id"], r["domain"], s.n_tokens, s.base, s.reference, s.entropy)
            for (r, _), s in zip(usable, sums, strict=True)
        ]
        for row in losses:
            if not all(abs(value) < float("inf") for value in row[4:]):  # NaN fails this too
                raise UserError(
                    f"document {row[0]} has a loss that is not a number; "
                    "use scoring.precision=float32 or another model."
                )
        skipped = [(r["unit_id"], r["domain"], "fewer than two tokens: nothing to predict") for r in short]
        for name, found, schema in ((names[1], skipped, SKIPPED_SCHEMA), (names[0], losses, SCHEMA)):
            with work.writing(name) as path:
                _write(path, found, schema)


def _write(path: Path, rows: Sequence[tuple[object, ...]], schema: pa.Schema) -> None:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    pq.write_table(
        pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema), path
    )


def _merge(work: Workdir, kind: str, count: int, schema: pa.Schema) -> None:
    with work.writing(f"{kind}.parquet") as path, pq.ParquetWriter(path, schema) as writer:
        for shard in range(count):
            writer.write_table(pq.read_table(work.path(f"shards/{kind}-{shard:06d}.parquet")))
