"""Section `fidelity`: how far packed losses are from float32 one document at a time, on real text."""

from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from airlab.progress import announce, progress
from airlab.randomness import generator
from airlab.scoring.influence import attention_influence
from scorebench import inputs
from scorebench.clock import airlab_switches, release
from scorebench.contenders import Documents, engine_losses, judge_losses
from scorebench.options import Options
from scorebench.subjects import Subject

_SELECTED = 0.2
_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def run(options: Options) -> dict[str, Any]:
    """Errors of losses, ranks and selection against the judge, and movement with the batch."""
    subject = inputs.subject(options, "SmolLM2-135M")
    count = options.count or (24 if options.rehearsal else 512 if options.device == "cuda" else 24)
    documents, domains = inputs.tokenized(options, count)
    truth = _judged(options, subject, documents)
    release(options.device)
    precisions = {}
    with airlab_switches(options.machine()):
        for name, dtype in _DTYPES.items():
            first, others = _packed(options, subject, dtype, documents)
            release(options.device)
            precisions[name] = accuracy(first, truth) | {
                "movement": {how: _movement(first, other) for how, other in others.items()}
            }
            announce(f"{name}: worst error of a loss {np.max(np.abs(first / truth - 1)):.1e}")
    score = attention_influence(*truth)
    return {
        "subject": subject.facts(),
        "documents": len(documents),
        "tokens": sum(len(d) for d in documents),
        "domains": sorted(set(domains)),
        "score_quartiles": [float(q) for q in np.quantile(score, [0.25, 0.5, 0.75])],
        "precisions": precisions,
    }


def _judged(options: Options, subject: Subject, documents: Documents) -> np.ndarray:
    model = subject.ordinary(options.device, torch.float32, "sdpa")
    with progress("judging one by one", "passes", 2 * len(documents)) as tick:
        return judge_losses(model, subject.mask.heads, documents, tick)


def _packed(
    options: Options, subject: Subject, dtype: torch.dtype, documents: Documents
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Losses [2, documents] by airlab, and the same with documents batched otherwise."""
    full = options.tokens_per_step
    lm = subject.engine(options.device, dtype)
    reference = subject.reference(lm)

    def losses(order: np.ndarray, tokens_per_batch: int) -> np.ndarray:
        sums = np.empty((2, len(documents)))
        sums[:, order] = engine_losses(lm, reference, [documents[i] for i in order], tokens_per_batch)
        return sums

    arriving = np.arange(len(documents))
    shuffled = generator(0, "benchmark batches").permutation(len(documents))
    # As a stage scores: some documents a call, so that the last batch of each is partly empty.
    pieces = np.array_split(shuffled, 5)
    in_pieces = np.empty((2, len(documents)))
    for piece in pieces:
        in_pieces[:, piece] = engine_losses(lm, reference, [documents[i] for i in piece], full)
    return losses(arriving, full), {
        "shuffled": losses(shuffled, full),
        "in five pieces": in_pieces,
        "half the budget": losses(arriving, full // 2),
        "a quarter, shuffled": losses(shuffled, full // 4),
    }


def accuracy(losses: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Errors of losses [2, documents] against the judge's, and what they do to ranks and selection."""
    errors = np.abs(losses / truth - 1)
    ours, theirs = attention_influence(*losses), attention_influence(*truth)
    chosen = max(1, round(_SELECTED * len(ours)))
    best = [set(np.argsort(-score, kind="stable")[:chosen].tolist()) for score in (ours, theirs)]
    return {
        "relative_error": {
            name: {"mean": float(e.mean()), "p99": float(np.quantile(e, 0.99)), "worst": float(e.max())}
            for name, e in zip(("base", "reference"), errors, strict=True)
        },
        "spearman": float(spearmanr(ours, theirs).statistic),
        "selected_overlap": len(best[0] & best[1]) / chosen,
    }


def _movement(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """How far a document's loss and score move with what it is batched with."""
    score, moved = attention_influence(*one), attention_influence(*other)
    return {
        "loss": float(np.max(np.abs(other / one - 1))),
        "score": float(np.max(np.abs(moved / score - 1))),
        "score_p99": float(np.quantile(np.abs(moved / score - 1), 0.99)),
        "score_absolute": float(np.max(np.abs(moved - score))),
    }
