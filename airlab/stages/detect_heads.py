"""Find a model's retrieval heads."""

from dataclasses import dataclass
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
    passes of `probes.max_tokens` tokens without output projection.
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
        from airlab.text.sentences import sentences

        lm = load_causal_lm(
            model_folder(work, self.model), device=use_device(machine), dtype=DTYPES[self.detection.precision]
        )
        check_exactness(lm)
        texts = pq.read_table(work.input(self.corpus) / "documents.parquet", columns=["text"])["text"]
        probes = list(
            build_probes(lm.tokenizer, sentences(texts.to_pylist()), self.probes, lm.geometry.context)
        )
        results: list[ProbeResult] = []
        with progress("finding retrieval heads", "probes", len(probes)) as advance:
            for start in range(0, len(probes), _PROBES_PER_SHARD):
                name = f"probes/{start:06d}.npz"
                shard = probes[start : start + _PROBES_PER_SHARD]
                if work.has(name):
                    advance(len(shard))
                else:
                    found = []
                    for result in score_probes(lm, shard, self.detection, machine.tokens_per_batch):
                        found.append(result)
                        advance(1)
                    with work.writing(name) as path, path.open("wb") as out:
                        np.savez(
                            out,
                            recall=np.stack([r.recall for r in found]),
                            chance=[r.chance for r in found],
                            accuracy=[r.accuracy for r in found],
                        )
                with np.load(work.path(name)) as saved:
                    results += [
                        ProbeResult(r, float(c), float(a))
                        for r, c, a in zip(saved["recall"], saved["chance"], saved["accuracy"], strict=True)
                    ]
        ranking = rank_heads(results, lm.geometry, lm.digest, self.detection.failed_retrievals)
        with work.writing("heads.json") as path:
            write_ranking(path, ranking)
        work.note(
            probes=ranking.probes,
            probe_tokens=int(sum(len(p.tokens) for p in probes)),
            answer_accuracy=ranking.answer_accuracy,
            split_half_spearman=ranking.split_half_spearman,
        )
