"""Section `cpu`: airlab against one and two ordinary passes on the processor."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from airlab.progress import announce
from airlab.scoring.influence import attention_influence
from scorebench import inputs
from scorebench.clock import Timing, airlab_switches, timed
from scorebench.contenders import engine_losses, padded_losses
from scorebench.options import Options

_BATCH = 8
_AGREEMENT = 1e-4


def run(options: Options) -> dict[str, Any]:
    """Seconds of every contender over the same real documents.

    Raises:
        SystemExit: they do not compute the same losses, or a GPU was asked for.
    """
    if options.device != "cpu":
        raise SystemExit("the section `cpu` measures the processor: run it with --device cpu.")
    subject = inputs.subject(options, "SmolLM2-135M")
    count = options.count or 12
    # Asked first: whether airlab's switches change anything is part of the answer.
    with airlab_switches(options.machine()):
        lm = subject.engine("cpu", torch.float32)
        switch = str(torch.backends.mkldnn.matmul.fp32_precision)  # type: ignore[attr-defined]
    reference = subject.reference(lm)
    documents, _ = inputs.tokenized(options, count)
    tokens = sum(len(d) for d in documents)
    order = sorted(range(len(documents)), key=lambda i: -len(documents[i]))
    batches = [order[k : k + _BATCH] for k in range(0, len(order), _BATCH)]
    base = subject.ordinary("cpu", torch.float32, "sdpa")
    masked = subject.masked(base)
    rows: dict[str, Any] = {}
    sums: dict[str, np.ndarray] = {}

    def measure(name: str, title: str, work: Callable[[slice], np.ndarray], *, switches: bool) -> None:
        with airlab_switches(options.machine()) if switches else nullcontext():
            timing: Timing = timed(
                lambda: work(slice(None)), "cpu", options.repeats, lambda: work(slice(-1, None))
            )
        rows[name] = timing.facts() | {"title": title, "tokens_per_second": tokens / timing.seconds}
        sums[name] = timing.result
        announce(f"{title}: {rows[name]['tokens_per_second']:,.0f} tokens/s")

    def ours(some: slice) -> np.ndarray:
        return engine_losses(lm, reference, documents[some], options.tokens_per_step)

    def ordinary(models: Sequence[Any], some: slice) -> np.ndarray:
        return padded_losses(models, documents, batches[some])

    title = f"transformers sdpa, sorted, batches of {_BATCH}"
    for name, row_title, models, switches in (
        ("one-pass", f"{title}, one pass (base only)", [base], False),
        ("two-passes", f"{title}, two passes", [base, masked], False),
        ("one-pass-onednn", "one pass, with airlab's oneDNN switch", [base], True),
        ("two-passes-onednn", "two passes, with airlab's oneDNN switch", [base, masked], True),
    ):
        measure(name, row_title, partial(ordinary, models), switches=switches)
    measure("airlab", "airlab, base and reference in one packed pass", ours, switches=True)
    difference = max(
        float(np.max(np.abs(sums["airlab"][: len(theirs)] / theirs - 1))) for theirs in sums.values()
    )
    if not difference <= _AGREEMENT:
        raise SystemExit(f"the contenders disagree by {difference:.1e}: nothing to compare")
    lm = subject.engine("cpu", torch.bfloat16)
    measure("airlab-bfloat16", "airlab in bfloat16 (for information)", ours, switches=True)
    scores = {name: attention_influence(*sums[name]) for name in ("airlab", "airlab-bfloat16")}
    for row in rows.values():
        row["over_one_pass"] = row["seconds"] / rows["one-pass"]["seconds"]
    return {
        "subject": subject.facts(),
        "documents": len(documents),
        "tokens": tokens,
        "threads": torch.get_num_threads(),
        "onednn_switch": switch,
        "rows": rows,
        "largest_difference": difference,
        "two_passes_over_airlab": rows["two-passes"]["seconds"] / rows["airlab"]["seconds"],
        "bfloat16": {
            "largest_difference": float(np.max(np.abs(sums["airlab-bfloat16"] / sums["airlab"] - 1))),
            "spearman": float(spearmanr(scores["airlab"], scores["airlab-bfloat16"]).statistic),
        },
    }
