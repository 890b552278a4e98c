"""Retrieval scores of all heads of any checkpoint."""

from dataclasses import dataclass
from typing import ClassVar

from airlab.schema.heads import Detection, Probes
from airlab.schema.machine import Machine
from airlab.stages.detect_heads import measure_probes
from airlab.stages.prepare_model import Model
from airlab.store.stage import Stage, Workdir


@dataclass(frozen=True)
class MapHeads(Stage):
    """`map.json`, a HeadMap: what `DetectHeads` measures, also of a model that has no retrieval heads.

    `DetectHeads` refuses such a model, since a ranking of its heads would be noise; here the noise is the
    result. Resume unit and cost as there.
    """

    VERSION: ClassVar[int] = 1
    model: Model
    corpus: Stage
    probes: Probes
    detection: Detection

    def slug(self) -> str:
        return self.model.slug() if isinstance(self.model, Stage) else ""

    def run(self, work: Workdir, machine: Machine) -> None:
        from airlab.heads.maps import map_heads, write_map

        lm, results, tokens = measure_probes(
            work, machine, self.model, self.corpus, self.probes, self.detection
        )
        found = map_heads(results, lm.digest, self.detection.failed_retrievals)
        with work.writing("map.json") as path:
            write_map(path, found)
        work.note(
            probes=found.probes,
            probe_tokens=tokens,
            answer_accuracy=found.answer_accuracy,
            heads_above_chance=found.heads_above_chance,
        )
