"""Base and reference losses: airlab's packed pass against ordinary transformers, in one run.

Everybody scores the same documents of the embedded pool with SmolLM2-135M in float32. The rival pads
sorted documents to a batch, runs the model twice (once per model, masking costed at nothing), and
takes losses from whole logits. Ratios are what counts; absolute rates belong to the machine named.

    python benchmarks/scoring.py [--documents 48]
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from hydra import compose, initialize_config_dir
from transformers import AutoModelForCausalLM

from airlab.cli.experiment import open_experiment
from airlab.cli.main import configs_folder
from airlab.cli.outputs import open_store
from airlab.heads.mask import read_mask
from airlab.models.device import use_device
from airlab.models.load import load_causal_lm
from airlab.scoring.losses import measure_documents
from airlab.store.plan import Plan
from airlab.store.provenance import provenance
from airlab.text.tokens import encode_documents

_BATCH = 8
_REPEATS = 3


def padded_losses(model: torch.nn.Module, documents: list[np.ndarray]) -> np.ndarray:
    """Loss sums by padded batches of documents sorted by length, float64 [documents]."""
    sums = np.zeros(len(documents))
    order = sorted(range(len(documents)), key=lambda i: -len(documents[i]))
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        longest = max(len(documents[i]) for i in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        present = torch.zeros_like(ids)
        for row, i in enumerate(rows):
            ids[row, : len(documents[i])] = torch.as_tensor(documents[i])
            present[row, : len(documents[i])] = 1
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=present).logits[:, :-1].float()
            loss = torch.nn.functional.cross_entropy(
                logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1), reduction="none"
            ).view(len(rows), -1)
        sums[rows] = (loss.double() * present[:, 1:]).sum(1).numpy()
    return sums


def seconds(work: Callable[[], object]) -> float:
    """Median of a few runs after one to warm up."""
    work()
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    """Prepare, check that all agree, time, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=48)
    count = parser.parse_args().documents
    with initialize_config_dir(str(configs_folder()), version_base="1.3"):
        module, config, command = open_experiment(compose("run", ["scale=smoke"]))
    losses, store = module.losses_stage(config), open_store()
    Plan(store, [losses.heads]).run(command.machine)
    use_device(command.machine)
    folder = store.folder(losses.model)
    texts = pq.read_table(store.folder(losses.corpus) / "documents.parquet")["text"].to_pylist()[:count]
    lm = load_causal_lm(folder)
    documents = encode_documents(lm.tokenizer, texts)
    ordinary = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()
    mask = read_mask(store.folder(losses.heads) / "heads.json", 0.05, "uniform")

    def ours() -> np.ndarray:
        sums = measure_documents(
            lm, mask.reference(lm.device), documents, window_tokens=4096, tokens_per_batch=4096
        )
        return np.array([s.base for s in sums])

    worst = float(np.max(np.abs(ours() / padded_losses(ordinary, documents) - 1)))
    if worst > 1e-4:
        raise SystemExit(f"the contenders disagree by {worst:.1e}: nothing to time")
    tokens = sum(len(d) - 1 for d in documents)
    one = seconds(lambda: padded_losses(ordinary, documents))
    both = seconds(ours)
    rows = {
        "transformers, sorted and padded, one pass (base only)": one,
        "transformers, sorted and padded, two passes": 2 * one,
        "airlab, base and reference in one packed pass": both,
    }
    facts = {
        "documents": len(documents),
        "tokens": tokens,
        "largest_relative_difference_of_losses": worst,
        "seconds": rows,
        "tokens_per_second": {name: tokens / s for name, s in rows.items()},
        "airlab_over_one_ordinary_pass": both / one,
        "two_ordinary_passes_over_airlab": 2 * one / both,
        "provenance": provenance(),
    }
    for name, s in rows.items():
        print(f"{name:<55} {tokens / s:8.0f} documents' tokens/s")
    print(f"airlab costs {both / one:.2f} of one ordinary pass, {2 * one / both:.2f} x faster than two")
    target = Path(__file__).parent / "results" / "scoring-cpu.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
