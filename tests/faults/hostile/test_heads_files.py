"""Heads and scores that somebody else wrote: what no ranking or table can say is refused in a sentence."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airlab.errors import UserError
from airlab.heads.mask import read_mask, strongest_head
from airlab.heads.ranking import FORMAT
from tests.faults.ledger import count
from tests.unit.cli.conftest import Refused

HEADS: list[dict[str, Any]] = [
    {
        "layer": number // 4,
        "head": number % 4,
        "retrieval_score": 1 - number / 20,
        "stderr": 0.1,
        "first_half": 0.5,
        "second_half": 0.5,
    }
    for number in range(12)
]
RANKING: dict[str, Any] = {
    "format": FORMAT,
    "model_digest": "0" * 64,
    "layers": 3,
    "heads_per_layer": 4,
    "probes": 10,
    "answer_accuracy": 0.9,
    "chance": 0.01,
    "split_half_spearman": 0.9,
    "heads": HEADS,
}


def best(**changes: object) -> dict[str, Any]:
    return {**RANKING, "heads": [{**HEADS[0], **changes}, *HEADS[1:]]}


RANKED = "does not rank each head of its layers once, best first"
TYPED = "is not a head ranking ("
LISTED = "is neither a ranking made by `airlab heads` nor a JSON list"

REFUSED: dict[str, tuple[object, str]] = {
    "no heads": ({**RANKING, "heads": []}, RANKED),
    "heads in words": ({**RANKING, "heads": "abc"}, TYPED),
    "heads by name": ({**RANKING, "heads": {}}, TYPED),
    "heads that are numbers": ({**RANKING, "heads": [1]}, TYPED),
    "a negative layer": (best(layer=-1), RANKED),
    "a layer beyond": (best(layer=10**30), RANKED),
    "a layer in words": (best(layer="0"), TYPED),
    "a layer that is a list": (best(layer=[0]), TYPED),
    "half a layer": (best(layer=0.5), TYPED),
    "a true layer": (best(layer=False), TYPED),
    "a score that is NaN": (best(retrieval_score=math.nan), RANKED),
    "an endless score": (best(retrieval_score=math.inf), RANKED),
    "a score of 10^400": (best(retrieval_score=10**400), RANKED),
    "a score below zero": ({**RANKING, "heads": [*HEADS[:11], {**HEADS[11], "retrieval_score": -1}]}, RANKED),
    "a score in words": (best(retrieval_score="1"), TYPED),
    "no score": (best(retrieval_score=None), TYPED),
    "a head twice": ({**RANKING, "heads": [*HEADS[:11], HEADS[0] | {"retrieval_score": 0.1}]}, RANKED),
    "the worst first": ({**RANKING, "heads": HEADS[::-1]}, RANKED),
    "a few of the heads": ({**RANKING, "heads": HEADS[:3]}, RANKED),
    "10^5 heads": ({**RANKING, "heads": HEADS[:1] * 10**5}, RANKED),
    "10^9 layers": ({**RANKING, "layers": 10**9}, RANKED),
    "negative layers": ({**RANKING, "layers": -3, "heads_per_layer": -4}, RANKED),
    "layers in words": ({**RANKING, "layers": "3"}, TYPED),
    "weights in a list": ({**RANKING, "model_digest": ["0"]}, TYPED),
    "weights of any model": ({**RANKING, "model_digest": None}, TYPED),
    "a list of lists of words": ([[0, "1"]], LISTED),
    "a list of NaN": ([[math.nan, 0]], LISTED),
    "a list of truths": ([[True, 0]], LISTED),
    "a number of 4,000 digits": ([[10**4000, 0]], LISTED),
    "triples": ([[0, 0, 0]], LISTED),
    "nothing": (None, LISTED),
    "no list": ([], LISTED),
    "a word": ("heads", LISTED),
    "another format": ({"format": ["x"]}, LISTED),
}


@pytest.mark.parametrize("case", REFUSED)
def test_made_up_heads_are_refused(tmp_path: Path, case: str) -> None:
    data, told = REFUSED[case]
    path = tmp_path / "heads.json"
    path.write_text(json.dumps(data))
    with pytest.raises(UserError) as refusal:
        read_mask(path, 0.3, "uniform")
    sentence = str(refusal.value)
    assert told in sentence and len(sentence) < 500
    count("hostile", "heads and scores that were made up: refused", inputs=1)


def test_each_of_them_is_only_refused_for_what_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "heads.json"
    path.write_text(json.dumps(RANKING))
    assert read_mask(path, 0.3, "uniform").heads == ((0, 0), (0, 1), (0, 2), (0, 3))
    assert strongest_head(path) == (0, 0)


@pytest.mark.parametrize("case", ["the worst first", "a layer in words", "a list of truths"])
def test_no_command_scores_with_made_up_heads(refused: Refused, model: Path, case: str) -> None:
    data, told = REFUSED[case]
    Path("heads.json").write_text(json.dumps(data))
    Path("docs.jsonl").write_text('{"text": "river stone house letter garden"}\n')
    given = ["model=local", f"model.path={model}", "machine=cpu", "scoring.window_tokens=64"]
    assert told in refused("score", *given, "heads=heads.json", "input=docs.jsonl", "output=s.parquet")
    assert told in refused("explain", *given, "heads=heads.json", "text=river stone", "output=m.html")
    count("hostile", "heads and scores that were made up: refused", inputs=2)


STEPS = {"trace": ["t", "t"], "start": [0, 5], "end": [5, 9]}
SCORES: dict[str, Any] = {
    "id": ["a", "b"],
    "domain": ["x", "x"],
    "n_tokens": [5, 6],
    **{name: [1.0, 2.0] for name in ("loss_base", "loss_ref", "entropy", "attention_influence")},
}

TABLES: dict[str, tuple[dict[str, Any], str]] = {
    "a score that is NaN": ({"attention_influence": [math.nan, 1.0]}, ""),
    "an endless score": ({"attention_influence": [math.inf, 1.0]}, ""),
    "no score": ({"attention_influence": [None, 1.0]}, "has no attention_influence in row 0"),
    "a score in words": ({"attention_influence": ["1", "2"]}, "the column attention_influence"),
    "scores in lists": ({"attention_influence": [[1.0], [2.0]]}, "the column attention_influence"),
    "an id that is a list": ({"id": [["a"], ["b"]]}, "the column id"),
    "an id twice": ({"id": ["a", "a"]}, "more than once"),
    "ids of numbers": ({"id": [1, 2]}, "the column id"),
    "no tokens": ({"n_tokens": [0, 6]}, "has 0 for n_tokens in row 0"),
    "negative tokens": ({"n_tokens": [5, -6]}, "has -6 for n_tokens in row 1"),
    "2^62 tokens": ({"n_tokens": [5, 2**62]}, "for n_tokens in row 1"),
    "half tokens": ({"n_tokens": [0.5, 1.5]}, "the column n_tokens"),
}


@pytest.mark.parametrize("case", TABLES)
def test_made_up_scores_are_refused(refused: Refused, case: str) -> None:
    changes, told = TABLES[case]
    pq.write_table(pa.table({**SCORES, **STEPS, **changes}), "scores.parquet")
    given = ("scores=scores.parquet", "output=out.parquet")
    assert told in refused("select", *given, "selector=attention_influence")
    assert told in refused("weigh", *given, "selector=attention_influence")
    count("hostile", "heads and scores that were made up: refused", inputs=2)
