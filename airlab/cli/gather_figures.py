"""What figures need and only the store knows, gathered from an experiment's finished artifacts.

Head maps, score distributions, what scores go along with, and learning curves; numbers alone, no text, no
ids of documents and no paths, so that the file can be published with the results.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from airlab.heads.ranking import read_ranking
from airlab.reporting.figures.results import FORMAT, GATHERED
from airlab.selection.audit import associations
from airlab.stages.continue_pretraining import ContinuePretraining
from airlab.stages.detect_heads import DetectHeads
from airlab.stages.evaluate import Evaluate
from airlab.stages.fine_tune import FineTune
from airlab.stages.measure_losses import MeasureLosses
from airlab.stages.measure_steps import MeasureSteps
from airlab.stages.pretrain import Pretrain
from airlab.stages.score_traces import ScoreTraces
from airlab.stages.score_units import ScoreUnits
from airlab.stages.select_units import SelectUnits
from airlab.store.durable import written
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.stage import Stage
from airlab.store.store import Store
from airlab.text.statistics import TextStatistics, measure_text

METHOD = "attention_influence"
BINS = 40
"""Of a histogram, from the lowest score to the highest."""

POINTS = 1000
"""Units at most whose texts are measured and that are shown one by one."""

CURVE_POINTS = 60
"""Of a learning curve, at most: each is the mean over as many updates as are needed."""

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def gather_figures(targets: Mapping[str, Stage], store: Store) -> dict[str, Any]:
    """What `figures.json` holds, from the artifacts that are there.

    Args:
        targets: an experiment's, by name (`targets(config)`).

    Returns:
        JSON values, the same for the same artifacts:

        - ``head_maps``: retrieval scores, layers × heads, and which heads were masked.
        - ``scores``: histograms of attention influence by domain, and where the selection cuts.
        - ``confounds``: of at most `POINTS` units, influence beside length, repetition, compression and base
          loss, with rank correlations.
        - ``curves``: training loss by tokens of every trained target, thinned.

        Each part names the fingerprints it was made from; a part whose artifacts are gone is left out.
    """
    order = Plan(store, list(targets.values())).order
    parts = {
        "head_maps": list(_head_maps(order, store)),
        "scores": _scores(order, store),
        "confounds": _confounds(order, store),
        "curves": list(_curves(targets, store)),
    }
    return {name: part for name, part in parts.items() if part}


def write_gathered(folder: Path, gathered: Mapping[str, Any]) -> None:
    """Write `figures.json` into a results folder: a line for every part, and for every member of a list."""
    lines = []
    for name, part in {"format": FORMAT, **gathered}.items():
        members = part if isinstance(part, list) else [part]
        texts = (json.dumps(member, separators=(",", ":"), allow_nan=False) for member in members)
        joined = ",\n".join(texts)
        lines.append(f"{json.dumps(name)}:" + (f"[\n{joined}\n]" if isinstance(part, list) else joined))
    with written(folder / GATHERED) as temporary:
        temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8", newline="\n")


def _head_maps(order: Sequence[Stage], store: Store) -> Iterator[dict[str, Any]]:
    measured = [stage for stage in order if isinstance(stage, MeasureLosses | MeasureSteps)]
    for stage in order:
        if not isinstance(stage, DetectHeads) or (folder := store.find(stage)) is None:
            continue
        ranking = read_ranking(folder / "heads.json")
        grid = np.zeros((ranking.layers, ranking.heads_per_layer))
        for head in ranking.heads:
            grid[head.layer, head.head] = head.retrieval_score
        masked = None
        for losses in measured:
            record = store.record(losses) if losses.heads == stage else None
            if record is not None:
                masked = record.notes["masked_heads"]
                break
        yield {
            "fingerprint": fingerprint(stage),
            "probes": ranking.probes,
            "answer_accuracy": _short(ranking.answer_accuracy),
            "chance": _short(ranking.chance),
            "scores": [[_short(score) for score in row] for row in grid],
            "masked": masked,
        }


def _scored(order: Sequence[Stage], store: Store) -> tuple[ScoreUnits | ScoreTraces, Path] | None:
    """The method's first scores: those of the default setting and the first seed."""
    for stage in order:
        if isinstance(stage, ScoreUnits | ScoreTraces) and getattr(stage.selector, "kind", "") == METHOD:
            folder = store.find(stage)
            if folder is not None:
                return stage, folder / "scores.parquet"
    return None


def _scores(order: Sequence[Stage], store: Store) -> dict[str, Any] | None:
    found = _scored(order, store)
    if found is None:
        return None
    stage, path = found
    table = pq.read_table(path, columns=["unit_id", "domain", "score"])
    unit_id, domain, score = (table[name].to_numpy(zero_copy_only=False) for name in table.column_names)
    edges = np.histogram_bin_edges(score, BINS)
    selection = next(
        (s for s in order if isinstance(s, SelectUnits) and s.scores == stage and store.find(s) is not None),
        None,
    )
    taken = None
    if selection is not None:
        chosen = pq.read_table(store.folder(selection) / "selection.parquet", columns=["unit_id"])
        taken = np.isin(unit_id, chosen["unit_id"].to_numpy(zero_copy_only=False))
    domains = []
    for name in sorted(set(domain.tolist())):
        here = domain == name
        some = score[here]
        least = None if taken is None or not (taken & here).any() else _short(score[taken & here].min())
        domains.append(
            {
                "domain": name,
                "n": int(here.sum()),
                "counts": np.histogram(some, edges)[0].tolist(),
                "quantiles": [_short(value) for value in np.quantile(some, _QUANTILES)],
                "selected": None if taken is None else int((taken & here).sum()),
                "lowest_selected": least,
            }
        )
    return {
        "fingerprint": fingerprint(stage),
        "unit": _unit(stage),
        "edges": [_short(edge) for edge in edges],
        "domains": domains,
    }


def _confounds(order: Sequence[Stage], store: Store) -> dict[str, Any] | None:
    found = _scored(order, store)
    if found is None:
        return None
    stage, path = found
    source, column, of_corpus = (
        (stage.corpus, "text", "documents.parquet")
        if isinstance(stage, ScoreUnits)
        else (stage.traces, "response", "traces.parquet")
    )
    corpus, losses = store.find(source), store.find(stage.losses)
    if corpus is None or losses is None:
        return None
    table = pq.read_table(path, columns=["unit_id", "domain", "n_tokens", "score"])
    unit_id = table["unit_id"].to_numpy(zero_copy_only=False)
    rows = np.array(sorted(range(len(unit_id)), key=lambda row: _drawn(unit_id[row]))[:POINTS])
    shown = table.take(rows).to_pylist()
    wanted = {row["unit_id"] for row in shown}
    texts: dict[str, TextStatistics] = {}
    with pq.ParquetFile(corpus / of_corpus) as file:
        for batch in file.iter_batches(columns=["unit_id", column]):
            for row in batch.to_pylist():
                if row["unit_id"] in wanted:
                    texts[row["unit_id"]] = measure_text(row[column])
    sums = pq.read_table(losses / "losses.parquet", columns=["parent_id", "n_tokens", "loss_sum_base"])
    total = sums.group_by("parent_id").aggregate([("n_tokens", "sum"), ("loss_sum_base", "sum")])
    base = {row["parent_id"]: row["loss_sum_base_sum"] / row["n_tokens_sum"] for row in total.to_pylist()}
    confounds = {
        "length": [row["n_tokens"] for row in shown],
        "repetition": [texts[row["unit_id"]].repetition for row in shown],
        "compression_ratio": [texts[row["unit_id"]].compression_ratio for row in shown],
        "base_loss": [base[row["unit_id"]] for row in shown],
    }
    domain, score = np.array([row["domain"] for row in shown]), np.array([row["score"] for row in shown])
    correlations = associations(
        domain, {METHOD: score}, {name: np.array(values, float) for name, values in confounds.items()}
    )
    names = sorted(set(domain.tolist()))
    return {
        "fingerprints": [fingerprint(stage), fingerprint(source), fingerprint(stage.losses)],
        "unit": _unit(stage),
        "units": len(unit_id),
        "shown": len(shown),
        "domains": names,
        "domain": [names.index(name) for name in domain],
        "score": [_short(value) for value in score],
        **{name: [_short(value) for value in values] for name, values in confounds.items()},
        "correlations": {
            one.confound: {"spearman": _known(one.spearman), "within_domain": _known(one.within_domain)}
            for one in correlations
        },
    }


def _curves(targets: Mapping[str, Stage], store: Store) -> Iterator[dict[str, Any]]:
    for name, target in targets.items():
        trained = target.checkpoint if isinstance(target, Evaluate) else None
        if (
            not isinstance(trained, Pretrain | ContinuePretraining | FineTune)
            or (folder := store.find(trained)) is None
        ):
            continue
        lines = (folder / "curves.jsonl").read_text(encoding="utf-8").splitlines()
        curve = [(row["tokens"], row["loss"]) for row in map(json.loads, lines)]
        windows = np.array_split(np.array(curve), min(CURVE_POINTS, len(curve)))
        yield {
            "name": name.rpartition("/seed-")[0] or name,
            "seed": trained.seed,
            "fingerprint": fingerprint(trained),
            "updates": len(curve),
            "tokens": [int(window[-1, 0]) for window in windows],
            "loss": [_short(window[:, 1].mean()) for window in windows],
        }


def _unit(stage: ScoreUnits | ScoreTraces) -> str:
    return "documents" if isinstance(stage, ScoreUnits) else "traces"


def _drawn(unit_id: str) -> str:
    """An order that has nothing to do with the unit."""
    return hashlib.sha256(unit_id.encode()).hexdigest()


def _known(value: float | None) -> float | None:
    return None if value is None else _short(value)


def _short(value: float) -> float:
    """Five digits: more than a figure shows."""
    return float(f"{value:.5g}")
