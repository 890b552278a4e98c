"""Find a model's retrieval heads."""

from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from airlab.heads.results import ProbeResult, read_results, write_results
from airlab.progress import progress
from airlab.schema.heads import Detection, Probes
from airlab.schema.machine import Machine
from airlab.stages.prepare_model import Model, model_folder
from airlab.store.stage import Stage, Workdir

if TYPE_CHECKING:
    from airlab.models.load import CausalLM

_FOLDER = "probes"
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
        from airlab.heads.ranking import rank_heads, write_ranking

        lm, results, tokens = measure_probes(
            work, machine, self.model, self.corpus, self.probes, self.detection
        )
        ranking = rank_heads(results, lm.geometry, lm.digest, self.detection.failed_retrievals)
        with work.writing("heads.json") as path:
            write_ranking(path, ranking)
        work.note(
            probes=ranking.probes,
            probe_tokens=tokens,
            answer_accuracy=ranking.answer_accuracy,
            split_half_spearman=ranking.split_half_spearman,
        )


def measure_probes(
    work: Workdir, machine: Machine, model: Model, corpus: Stage, probes: Probes, detection: Detection
) -> "tuple[CausalLM, list[ProbeResult], int]":
    """What every probe says about every head of a stage's model: kept in `probes/*.npz`, 16 probes each.

    Returns:
        The loaded model, the results in the probes' order, and how many tokens all probes have.
    """
    import pyarrow.parquet as pq

    from airlab.heads.detect import score_probes
    from airlab.heads.probes import build_probes
    from airlab.models.device import DTYPES, use_device
    from airlab.models.exactness import check_exactness
    from airlab.models.load import load_causal_lm
    from airlab.text.ahead import ahead
    from airlab.text.sentences import sentences

    lm = load_causal_lm(
        model_folder(work, model), device=use_device(machine), dtype=DTYPES[detection.precision]
    )
    check_exactness(lm, longest=probes.max_tokens)
    texts = pq.read_table(work.input(corpus) / "documents.parquet", columns=["text"])["text"]
    everything = range(probes.count)
    shards = {
        f"{_FOLDER}/{start:06d}.npz": everything[start : start + _PROBES_PER_SHARD]
        for start in everything[::_PROBES_PER_SHARD]
    }
    missing = {name: numbers for name, numbers in shards.items() if not work.has(name)}
    wanted = build_probes(
        lm.tokenizer,
        sentences(texts.to_pylist()),
        probes,
        lm.geometry.context,
        [number for numbers in missing.values() for number in numbers],
    )
    batches = (islice(wanted, len(numbers)) for numbers in missing.values())
    total, rest = len(everything), sum(map(len, missing.values()))
    with (
        progress("finding retrieval heads", "probes", total, before=total - rest) as advance,
        closing(ahead(batches, most=2)) as built,
    ):
        for name, shard in zip(missing, built, strict=True):
            found = []
            for result in score_probes(lm, shard, detection, machine.tokens_per_batch):
                found.append(result)
                advance(1)
            with work.writing(name) as path:
                write_results(path, found, [len(p.tokens) for p in shard])
    return lm, *read_results([work.path(name) for name in shards])


def probe_results(folder: Path) -> list[ProbeResult]:
    """What every probe said, from the finished folder of a stage that used `measure_probes`."""
    return read_results(sorted((folder / _FOLDER).glob("*.npz")))[0]
