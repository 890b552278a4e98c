"""Find a model's retrieval heads."""

from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np

from airlab.progress import progress
from airlab.schema.heads import Detection, Probes
from airlab.schema.machine import Machine
from airlab.stages.prepare_model import Model, model_folder
from airlab.store.stage import Stage, Workdir

_PROBES_PER_SHARD = 16


@dataclass(frozen=True)
class DetectHeads(Stage):
    """A HeadRanking (AttentionInfluence, Section 3): `heads.json`, all heads, best first.

    The probes' sentences come from the corpus. Resume unit: 16 probes. Cost: `probes.count` forward
    passes of `probes.max_tokens` tokens without output projection; a thread builds the probes
    of up to two shards ahead.
    """

    VERSION: ClassVar[int] = 1
    model: Model
    corpus: Stage
    probes: Probes
    detection: Detection

    def run(self, work: Workdir, machine: Machine) -> None:
        import pyarrow.parquet as pq

        from airlab.heads.detect import ProbeResult, score_probes
        from airlab.heads.probes import build_probes
        from airlab.heads.ranking import rank_heads, write_ranking
        from airlab.models.device import DTYPES, use_device
        from airlab.models.exactness import check_exactness
        from airlab.models.load import load_causal_lm
        from airlab.text.ahead import ahead
        from airlab.text.sentences import sentences

        lm = load_causal_lm(
            model_folder(work, self.model), device=use_device(machine), dtype=DTYPES[self.detection.precision]
        )
        check_exactness(lm, longest=self.probes.max_tokens)
        texts = pq.read_table(work.input(self.corpus) / "documents.parquet", columns=["text"])["text"]
        everything = range(self.probes.count)
        shards = {
            f"probes/{start:06d}.npz": everything[start : start + _PROBES_PER_SHARD]
            for start in everything[::_PROBES_PER_SHARD]
        }
        missing = {name: numbers for name, numbers in shards.items() if not work.has(name)}
        probes = build_probes(
            lm.tokenizer,
            sentences(texts.to_pylist()),
            self.probes,
            lm.geometry.context,
            [number for numbers in missing.values() for number in numbers],
        )
        batches = (islice(probes, len(numbers)) for numbers in missing.values())
        total, rest = len(everything), sum(map(len, missing.values()))
        with (
            progress("finding retrieval heads", "probes", total, before=total - rest) as advance,
            closing(ahead(batches, most=2)) as built,
        ):
            for name, shard in zip(missing, built, strict=True):
                found = []
                for result in score_probes(lm, shard, self.detection, machine.tokens_per_batch):
                    found.append(result)
                    advance(1)
                with work.writing(name) as path, path.open("wb") as out:
                    np.savez(
                        out,
                        recall=np.stack([r.recall for r in found]),
                        chance=np.stack([r.chance for r in found]),
                        accuracy=[r.accuracy for r in found],
                        tokens=[len(p.tokens) for p in shard],
                    )
        results: list[ProbeResult] = []
        tokens = 0
        for name in shards:
            with np.load(work.path(name)) as saved:
                tokens += int(saved["tokens"].sum())
                results += [
                    ProbeResult(r, c, float(a))
                    for r, c, a in zip(saved["recall"], saved["chance"], saved["accuracy"], strict=True)
                ]
        ranking = rank_heads(results, lm.geometry, lm.digest, self.detection.failed_retrievals)
        with work.writing("heads.json") as path:
            write_ranking(path, ranking)
        work.note(
            probes=ranking.probes,
            probe_tokens=tokens,
            answer_accuracy=ranking.answer_accuracy,
            split_half_spearman=ranking.split_half_spearman,
        )
