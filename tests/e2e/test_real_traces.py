"""Steps of traces on a real pretrained model: padding scores lowest, and gets the least weight.

Needs the package with SmolLM2-135M's weights, as `test_real_weights` does.
"""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from airlab.cli.main import dispatch
from airlab.text.wheels import cache_folder

pytestmark = [pytest.mark.weights, pytest.mark.network]

TOP_HEADS = [
    [18, 6], [17, 3], [18, 7], [20, 6], [17, 4], [23, 2], [23, 7],
    [22, 7], [21, 8], [17, 5], [24, 4], [23, 8], [19, 5], [14, 1],
]  # fmt: skip
"""The top 5 % that `airlab heads` found on the laptop pool."""

PADDED = 1
"""The step of both traces that says nothing."""

TRACES = {
    "pencils": (
        "A shop sells pencils in boxes of twelve. Maria buys five boxes and gives away seven pencils. "
        "How many does she keep?",
        [
            "A box holds 12 pencils.",
            "Let me read the question once more.",
            "Five boxes hold 5 * 12 = 60 pencils.",
            "60 - 7 = 53",
            "She keeps 53 pencils.",
        ],
    ),
    "train": (
        "A train covers 180 km in 2 hours. How far does it go in 5 hours?",
        [
            "Its speed is 180 / 2 = 90 km an hour.",
            "Hmm, this is an interesting question, so let us think about it carefully.",
            "In 5 hours it covers 90 * 5 = 450 km.",
        ],
    ),
}


def test_padding_scores_and_weighs_least(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRLAB_CACHE", str(cache_folder()))
    monkeypatch.setenv("AIRLAB_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    rows = [
        {"id": name, "prompt": prompt, "response": "\n\n".join(steps)}
        for name, (prompt, steps) in TRACES.items()
    ]
    Path("traces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("heads.json").write_text(json.dumps(TOP_HEADS))
    score = ["score", "unit=step", "heads=heads.json", "input=traces.jsonl", "output=steps.parquet"]
    weigh = ["weigh", "scores=steps.parquet", "weights=linear", "output=weights.parquet"]
    for command in (score, weigh):
        monkeypatch.setattr("sys.argv", ["airlab"])
        assert dispatch(command) == 0
    steps, weights = (pq.read_table(f"{name}.parquet").to_pylist() for name in ("steps", "weights"))
    for name, (_, texts) in TRACES.items():
        influence = [s["attention_influence"] for s in steps if s["trace"] == name]
        assert len(influence) == len(texts) and influence.index(min(influence)) == PADDED
        own = [w["weight"] for w in weights if w["trace"] == name]
        assert own[PADDED] == 0 < min(own[:PADDED] + own[PADDED + 1 :])
