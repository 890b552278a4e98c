"""Section `heads`: seconds to find a model's retrieval heads."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from airlab.heads.detect import score_probes
from airlab.heads.probes import Probe, build_probes
from airlab.progress import announce
from airlab.schema.heads import Detection, Probes
from airlab.text.sentences import sentences
from scorebench import inputs
from scorebench.clock import airlab_switches, timed
from scorebench.options import Options


def run(options: Options) -> dict[str, Any]:
    """Detection packed and one probe at a time; building the probes apart."""
    subject = inputs.subject(options, "SmolLM2-135M")
    spec = Probes(count=800, max_tokens=4096)
    if options.rehearsal:
        spec = Probes(count=4, max_tokens=512, demonstrations=1, max_value_tokens=80)
    elif options.device == "cpu":
        spec = Probes(count=4, max_tokens=2048)
    detection = Detection(precision="bfloat16" if options.device == "cuda" else "float32")
    texts = pq.read_table(inputs.prepare(options)[2], columns=["text"])["text"].to_pylist()
    with airlab_switches(options.machine()) as device:
        lm = subject.engine(device, options.dtype)
        start = time.perf_counter()
        probes = list(build_probes(lm.tokenizer, sentences(texts), spec, lm.geometry.context))
        build_s = time.perf_counter() - start
        announce(f"{len(probes)} probes built in {build_s:.1f} s")

        def found(some: Sequence[Probe], tokens_per_batch: int) -> np.ndarray:
            results = list(score_probes(lm, some, detection, tokens_per_batch))
            return np.mean([r.recall for r in results], axis=0)

        few = probes[: max(1, len(probes) // 12)]
        packed = timed(
            lambda: found(probes, options.tokens_per_step),
            device,
            options.repeats,
            lambda: found(few, options.tokens_per_step),
        )
        alone = timed(lambda: found(few, 1), device, 1, lambda: found(few[:1], 1))
        same = float(np.max(np.abs(alone.result - found(few, options.tokens_per_step))))
    return {
        "subject": subject.facts(),
        "dtype": detection.precision,
        "probes": len(probes),
        "tokens": sum(len(p.tokens) for p in probes),
        "longest": max(len(p.tokens) for p in probes),
        "build_s": build_s,
        "packed": packed.facts(),
        "one_at_a_time": alone.facts()
        | {"probes": len(few), "all_s": alone.seconds * len(probes) / len(few)},
        "largest_difference_of_a_score": same,
    }
