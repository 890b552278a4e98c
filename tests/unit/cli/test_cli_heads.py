"""`airlab heads`: the head that copies comes first, and what it writes is what `score` takes."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tests.unit.cli.conftest import Airlab, documents, write_jsonl
from tests.unit.cli.model_folders import planted_folder
from tests.unit.heads.test_planted_head import PLANTED


def prose(path: Path) -> Path:
    """Short natural sentences, enough for probes of a character a token."""
    draw = np.random.default_rng(0)
    subjects, verbs = ["farmer", "doctor", "sailor", "teacher"], ["paints", "sells", "finds", "mends"]
    things = ["boats", "doors", "clocks", "maps", "chairs"]
    rows = [
        f"A {a} {v} old {t} {n}." for a in subjects for v in verbs for t in things for n in ("here", "now")
    ]
    return write_jsonl(path, [{"text": " ".join(draw.permutation(rows))}])


def test_the_ranking_is_best_first_and_goes_straight_into_score(airlab: Airlab, tmp_path: Path) -> None:
    model = planted_folder(tmp_path / "planted")
    detect = (
        "heads", "model=local", f"model.path={model}", "corpus=local",
        f"corpus.path={prose(tmp_path / 'prose.jsonl')}", "probes.count=24", "probes.max_tokens=1024",
        "probes.max_value_tokens=40", "output=heads.json",
    )  # fmt: skip
    found = airlab(*detect)
    assert found.code == 0, found.err
    heads = json.loads(Path("heads.json").read_text())["heads"]
    assert len(heads) == 8
    assert (heads[0]["layer"], heads[0]["head"]) == PLANTED
    assert [h["retrieval_score"] for h in heads] == sorted(
        (h["retrieval_score"] for h in heads), reverse=True
    )
    assert {"layer", "head", "retrieval_score", "stderr"} <= heads[0].keys()
    assert "heads.json: 8 heads, best first" in found.out

    again = airlab(*detect)
    assert again.code == 0 and "is there already" in again.out
    other = airlab(*detect, "probes.seed=1")
    assert other.code == 2 and "already exists" in other.sentence

    write_jsonl(Path("docs.jsonl"), documents(5))
    score = ("score", "model=local", f"model.path={model}", "input=docs.jsonl", "scoring.window_tokens=1024")
    assert airlab(*score, "heads=heads.json", "output=ranked.parquet").code == 0
    Path("by-hand.json").write_text(json.dumps([list(PLANTED)]))
    assert airlab(*score, "heads=by-hand.json", "output=by-hand.parquet").code == 0
    assert pq.read_table("ranked.parquet").equals(pq.read_table("by-hand.parquet"))
