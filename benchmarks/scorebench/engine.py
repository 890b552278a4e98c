"""Sections `engine-1.3b` and `engine-135m`: everybody over the same documents, in one process."""

import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from airlab.progress import announce
from scorebench.arithmetic import useful_flops
from scorebench.clock import (
    Timing,
    airlab_switches,
    copy_rate,
    gpu_state,
    matmul_rate,
    release,
    timed,
)
from scorebench.contenders import RIVALS, Documents, Rival, engine_losses, padded_losses
from scorebench.options import Options
from scorebench.subjects import Subject, leading, log_normal_documents

AGREEMENT = {torch.bfloat16: 0.03, torch.float32: 1e-4}
"""Largest relative difference of any document's loss between two contenders, or nothing is timed."""

_FILLED = 0.99
"""Share of the steps' room that documents take: they cannot be packed without any gap, and one document
too many would cost a step. A real run fills its last step half on average, one in a hundred."""


def run(options: Options, subject: Subject) -> dict[str, Any]:
    """Time airlab and its rivals; facts for the report.

    Raises:
        SystemExit: they do not compute the same losses.
    """
    device, dtype, full = options.device, options.dtype, options.tokens_per_step
    documents = log_normal_documents(
        options.steps * full, subject.config.vocab_size, cap=options.longest_document
    )
    documents = leading(documents, round(_FILLED * options.steps * full))
    lengths = [len(document) for document in documents]
    before = matmul_rate(device, dtype, options.matmul_size)
    facts: dict[str, Any] = {
        "subject": subject.facts(),
        "dtype": str(dtype).removeprefix("torch."),
        "documents": {"count": len(documents), "tokens": sum(lengths), "longest": max(lengths)},
        "buffer_tokens": full,
        "burst_flops": before.burst,
        "copy_bytes": copy_rate(device, options.copy_mebibytes),
        "flops_per_token": useful_flops(subject.config, lengths, subject.first_masked) / sum(lengths),
    }
    with airlab_switches(options.machine()):
        rows, truth = _ours(options, subject, documents)
    release(device)
    # Around airlab's runs, because a GPU's clock follows its power and temperature.
    around = (before, matmul_rate(device, dtype, options.matmul_size))
    bound = statistics.mean(rate.sustained for rate in around)
    facts |= {"bound_flops": bound, "bound_flops_around": [rate.sustained for rate in around]}
    if device == "cuda":
        facts["gpu_after_airlab"] = gpu_state()
    differences = {}
    for name in options.rivals:
        row, sums = _rival(options, subject, RIVALS[name], documents)
        rows[name] = row
        if sums is None:
            continue
        seen = ~np.isnan(sums[0])
        differences[name] = float(np.max(np.abs(truth[:, seen] / sums[:, seen] - 1)))
        if not differences[name] <= AGREEMENT[dtype]:
            raise SystemExit(f"airlab and {name} disagree by {differences[name]:.1e}: nothing to compare")
    for row in rows.values():
        if row["tokens_per_second"] is not None:
            row["share_of_bound"] = row["tokens_per_second"] * facts["flops_per_token"] / bound
            row["airlab_is_faster"] = rows["airlab"]["tokens_per_second"] / row["tokens_per_second"]
    return facts | {
        "rows": rows,
        "largest_difference": differences,
        "masking_moves_losses": float(np.mean(np.abs(truth[1] / truth[0] - 1))),
    }


def _row(title: str, documents: Documents, timing: Timing, **more: Any) -> dict[str, Any]:
    tokens = sum(len(document) for document in documents)
    row = timing.facts() | {"title": title, "documents": len(documents), "tokens": tokens} | more
    row["tokens_per_second"] = tokens / timing.seconds
    announce(f"{title}: {row['tokens_per_second']:,.0f} tokens/s")
    return row


def _ours(options: Options, subject: Subject, documents: Documents) -> tuple[dict[str, Any], np.ndarray]:
    """Rows of airlab at several step sizes; the losses at the largest, to hold the others against."""
    full = options.tokens_per_step
    lm = subject.engine(options.device, options.dtype)
    reference = subject.reference(lm)
    rows: dict[str, Any] = {}
    results = []
    for tokens_per_step, share in ((full, 1), (full // 2, 2), (full // 4, 2)):
        chosen = leading(documents, sum(len(document) for document in documents) // share)
        timing = timed(
            partial(engine_losses, lm, reference, chosen, tokens_per_step), options.device, options.repeats
        )
        name = "airlab" if tokens_per_step == full else f"airlab-{tokens_per_step}"
        # What the first run took longer than the others: compiling, tuning, loading kernels.
        compile_s = max(0.0, timing.first_s - timing.seconds)
        rows[name] = _row(f"airlab, {tokens_per_step:,} tokens a step", chosen, timing, compile_s=compile_s)
        results.append(timing.result)
    return rows, results[0]


def _rival(
    options: Options, subject: Subject, rival: Rival, documents: Documents
) -> tuple[dict[str, Any], np.ndarray | None]:
    """One rival with the largest batch that fits, halving it when memory runs out."""
    size = rival.batch
    while size >= 1:
        timed_row = _rival_at(options, subject, rival, documents, size)
        release(options.device)
        if timed_row is not None:
            note = "" if size == rival.batch else f"batches of {rival.batch} ran out of memory; with {size}"
            return timed_row[0] | {"note": note, "batch": size}, timed_row[1]
        announce(f"{rival.title}: out of memory with batches of {size}")
        size //= 2
    return {"title": rival.title, "tokens_per_second": None, "note": "out of memory at any batch"}, None


def _rival_at(
    options: Options, subject: Subject, rival: Rival, documents: Documents, size: int
) -> tuple[dict[str, Any], np.ndarray] | None:
    """The rival's row and losses, or None where its batches do not fit the memory."""
    base = subject.ordinary(options.device, options.dtype, rival.attention)
    models = [base, subject.masked(base)]
    if rival.compiled:
        models = [torch.compile(model, dynamic=True) for model in models]
    batches = rival.batches(documents, options.tokens_per_step, size)

    def score(some: Sequence[Sequence[int]]) -> np.ndarray:
        return padded_losses(models, documents, some, padding_mask=rival.padding_mask)

    try:
        timing = timed(
            lambda: score(batches), options.device, options.repeats, lambda: score([batches[0], batches[-1]])
        )
    except torch.OutOfMemoryError:
        return None
    chosen = [documents[i] for batch in batches for i in batch]
    compile_s = timing.first_s if rival.compiled else None
    return _row(f"{rival.title}, two passes", chosen, timing, compile_s=compile_s), timing.result
