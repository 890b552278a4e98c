"""A user's mistake is one sentence on standard error and exit code 2, and leaves no half-written file."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from airlab.cli.main import VERBS
from tests.unit.cli.conftest import Airlab, Refused, documents, write_jsonl
from tests.unit.cli.model_folders import planted_folder, random_folder, save_tokenizer


@pytest.fixture
def score(refused: Refused, model: Path, heads: Path) -> Refused:
    def call(**settings: object) -> str:
        given = {"heads": heads, "input": "docs.jsonl", "output": "out.parquet", "model.path": model}
        return refused("score", "model=local", **{**given, **settings})

    return call


@pytest.fixture
def docs(airlab: Airlab) -> Path:
    return write_jsonl(Path("docs.jsonl"), documents(6))


BAD_DOCUMENTS = {
    "empty file": ("", "docs.jsonl is empty"),
    "blank lines only": ("\n\n", "holds no documents"),
    "a line that is not JSON": ('{"text": "fine"}\nnot json\n', "line 2 of docs.jsonl is not JSON"),
    "a line cut short": ('{"text": "fine"}\n{"text": "fi', "line 2 of docs.jsonl is not JSON"),
    "a list instead of an object": ("[1]\n", "line 1 of docs.jsonl is a JSON list"),
    "no text column": ('{"id": 1, "body": "x", "topic": "y"}\n', "id, body, topic"),
    "text that is a number": ('{"text": "fine"}\n{"text": 5}\n', "line 2 of docs.jsonl"),
    "text that is a list": ('{"text": ["a"]}\n', "line 1 of docs.jsonl"),
    "duplicate ids": ('{"id": "a", "text": "x y"}\n{"id": "a", "text": "z y"}\n', "the id 'a'"),
    "an id that is no id": ('{"id": 1.5, "text": "x y"}\n', "'id'"),
    "bytes that are not UTF-8": ('{"text": "caf\udce9"}\n', "line 1 of docs.jsonl is not JSON"),
    "half a character": ('{"text": "caf\\ud800"}\n', "line 1 of docs.jsonl"),
    "a Parquet file named jsonl": ("PAR1\x15\x00", "line 1 of docs.jsonl is not JSON"),
}


@pytest.mark.parametrize("case", BAD_DOCUMENTS)
def test_documents_that_cannot_be_read(score: Refused, case: str) -> None:
    content, told = BAD_DOCUMENTS[case]
    Path("docs.jsonl").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert told in score()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"input": "nowhere.jsonl"}, "nowhere.jsonl does not exist"),
        ({"input": "notes.docx"}, "notes.docx is of an unknown type"),
        ({"input": "broken.parquet"}, "broken.parquet is not a readable Parquet file"),
        ({"input": "empty"}, "empty is neither a saved data set nor a folder"),
        ({"input": "???"}, "input is missing; give it as input=..."),
        ({"input": "null"}, "give the documents as input=FILE"),
        ({"input": ""}, "input= is empty, which would mean this folder"),
        ({"input": "deep"}, "more/b.jsonl in deep would be left out"),
        ({"input.text": "boddy"}, "no column 'boddy' for the text: its columns are id, text, domain"),
        ({"input.id": "number"}, "no column 'number' for the ids: its columns are id, text, domain"),
        ({"heads": "nowhere.json"}, "heads=nowhere.json does not exist; make it with `airlab heads"),
        ({"output": "nowhere/out.parquet"}, "the folder nowhere does not exist"),
        ({"output": "out.csv"}, "output=out.csv must end in .parquet"),
        ({"output": ""}, "output= is empty"),
        ({"output": "/proc/out.parquet"}, "/proc takes no new files"),
        ({"output": "???"}, "output is missing; give it as output=..."),
        ({"machine": "gpu1"}, "asks for a GPU"),
        (
            {"machine": "gpu9"},
            "there is no machine 'gpu9'; known are cpu, cpu2-zero2, gpu1, gpu2, gpu2-zero2",
        ),
        ({"machine.tokens_per_batch": 0}, "machine.tokens_per_batch=0 is not possible"),
        ({"scoring.window_tokens": 4096}, "exceeds the model's context of 2048"),
        ({"scoring.window": 64}, "there is no setting 'scoring.window'; known there: precision, window_tok"),
        ({"+scoring.window": 64}, "there is no setting scoring.window; known there: precision, window_tok"),
        (
            {"scorring.window": 64},
            "known there: aggregation, heads, input, machine, masking, model, output, rend",
        ),
        ({"+model.pth": 64}, "there is no setting model.pth; known there: kind, path"),
        ({"masking.share_of_heads": 0}, "masking.share_of_heads=0 is not possible"),
        ({"masking": "none"}, "there is no masking 'none'; known are uniform, zero"),
        ({"model.path": "nowhere"}, "nowhere does not exist"),
    ],
    ids=lambda value: " ".join(value) + "=" + str(*value.values()) if isinstance(value, dict) else "",
)
def test_settings_that_cannot_be(score: Refused, docs: Path, settings: dict[str, object], told: str) -> None:
    if torch.cuda.is_available() and settings == {"machine": "gpu1"}:
        pytest.skip("there is a GPU")
    Path("notes.docx").write_text("x")
    Path("broken.parquet").write_text("x")
    Path("empty").mkdir()
    Path("deep/more").mkdir(parents=True)
    write_jsonl(Path("deep/a.jsonl"), documents(2))
    write_jsonl(Path("deep/more/b.jsonl"), documents(2))
    assert told in score(**settings)


BAD_HEADS = {
    "not JSON": ("1, 2", "is not JSON"),
    "an empty list": ("[]", "neither a ranking made by `airlab heads` nor a JSON list"),
    "a list of numbers": ("[1, 2]", "neither a ranking"),
    "a ranking cut short": ('{"format": "airlab-heads/1", "heads": []}', "is not a head ranking"),
    "a layer too many": ("[[3, 0]]", "head [3, 0] does not exist: the model has 3 layers of 4 heads"),
    "a head too many": ("[[0, 4]]", "head [0, 4] does not exist"),
    "a negative layer": ("[[-1, 0]]", "head [-1, 0] does not exist"),
    "half a head": ("[[0.5, 0]]", "neither a ranking"),
    "endless brackets": ("[" * 100_000, "is not JSON"),
    "bytes that are not text": ("\udcff\udcfe", "is not JSON"),
}


@pytest.mark.parametrize("case", BAD_HEADS)
def test_heads_that_are_none(score: Refused, docs: Path, case: str) -> None:
    content, told = BAD_HEADS[case]
    Path("heads.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert told in score(heads="heads.json")


def test_heads_found_in_another_model(score: Refused, docs: Path, ranking: Path) -> None:
    assert "found in another model" in score(heads=ranking)


@pytest.fixture
def ranking(tmp_path: Path) -> Path:
    from airlab.heads.ranking import HeadRanking, RankedHead, write_ranking

    heads = tuple(RankedHead(i // 4, i % 4, 0.9 - i / 20, 0.01, 0.9, 0.9) for i in range(12))
    write_ranking(tmp_path / "found.json", HeadRanking("0" * 64, 3, 4, 8, 0.9, 0.01, 0.9, heads))
    return tmp_path / "found.json"


def test_a_ranking_cut_inside_a_tie(score: Refused, docs: Path, ranking: Path) -> None:
    data = json.loads(ranking.read_text())
    for head in data["heads"]:
        head["retrieval_score"] = 0.5
    ranking.write_text(json.dumps(data))
    assert "ends inside a run of equal retrieval scores" in score(heads=ranking)


def _without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _pickled(folder: Path) -> None:
    _without_weights(folder)
    torch.save({"weight": torch.zeros(1)}, folder / "pytorch_model.bin")


def _own_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModelForCausalLM": "m.M"}}))


def _own_tokenizer_code(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"auto_map": {"AutoTokenizer": ["t.T", None]}, "tokenizer_class": "T"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").unlink()
    (folder / "t.py").write_text("raise SystemExit('ran foreign code')")


BAD_MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (_without_weights, "no .safetensors weights"),
    "pickled weights": (_pickled, "pickle formats (.bin, .pt) are refused"),
    "code of its own": (_own_code, "which is never done"),
    "a tokenizer with code of its own": (_own_tokenizer_code, "tokenizer"),
    "no tokenizer": (
        lambda folder: [p.unlink() for p in folder.glob("tokenizer*")],
        "tokenizer",
    ),
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "it has no config.json"),
    "a damaged configuration": (lambda folder: (folder / "config.json").write_text("{"), "not valid JSON"),
    "an unknown architecture": (
        lambda folder: (folder / "config.json").write_text('{"model_type": "nonesuch"}'),
        "cannot be loaded",
    ),
    "damaged weights": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\x00" * 64),
        "cannot be loaded",
    ),
    "weights cut short": (
        lambda folder: os.truncate(folder / "model.safetensors", 4000),
        "cannot be loaded",
    ),
    "weights of another shape": (
        lambda folder: (folder / "config.json").write_text(
            (folder / "config.json").read_text().replace('"hidden_size": 32', '"hidden_size": 64')
        ),
        "cannot be loaded",
    ),
    "more layers than weights": (
        lambda folder: (folder / "config.json").write_text(
            (folder / "config.json").read_text().replace('"num_hidden_layers": 3', '"num_hidden_layers": 4')
        ),
        "its files lack model.layers.3",
    ),
    "more tokens than embeddings": (lambda folder: _grow(folder), "tokens"),
    "not a causal model": (
        lambda folder: (folder / "config.json").write_text('{"model_type": "vit"}'),
        "cannot be loaded",
    ),
}


def _grow(folder: Path) -> None:
    data = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = data["model"]["vocab"]
    vocabulary["e"] = 5000
    (folder / "tokenizer.json").write_text(json.dumps(data))


@pytest.mark.parametrize("case", BAD_MODELS)
def test_models_that_cannot_be_used(
    score: Refused, docs: Path, model: Path, tmp_path: Path, case: str
) -> None:
    spoil, told = BAD_MODELS[case]
    folder = Path(shutil.copytree(model, tmp_path / "spoilt"))
    spoil(folder)
    assert told in score(**{"model.path": folder})


def test_a_full_disk_while_the_output_is_written(
    score: Refused, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(pq.ParquetWriter):
        def __init__(self, where: Path, *settings: object, **named: object) -> None:
            if "out.parquet" in str(where):
                Path(where).write_bytes(b"PAR1")
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().__init__(where, *settings, **named)

    monkeypatch.setattr(pq, "ParquetWriter", Full)
    assert "the disk is full" in score()


def test_a_full_disk_while_scoring(score: Refused, docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("airlab.stages.shards.write_shard", full)
    assert "the disk is full" in score()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_that_is_read_only(score: Refused, docs: Path) -> None:
    Path("locked").mkdir(mode=0o500)
    assert "read-only" in score(output="locked/out.parquet")


@pytest.fixture
def select(refused: Refused) -> Refused:
    pq.write_table(
        pa.table(
            {
                "id": ["a", "b", "c"],
                "domain": ["x", "x", "y"],
                "n_tokens": [3, 4, 5],
                "loss_base": [1.0, 2.0, 3.0],
                "loss_ref": [2.0, 2.5, 3.0],
                "entropy": [1.0, 1.0, 1.0],
                "attention_influence": [1.0, 0.25, 0.0],
            }
        ),
        "scores.parquet",
    )

    def call(**settings: object) -> str:
        return refused("select", **{"scores": "scores.parquet", "output": "out.parquet", **settings})

    return call


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"share": 0}, "share=0"),
        ({"share": 1.5}, "share=1.5"),
        ({"share": -1}, "share=-1"),
        ({"share": "abc"}, "share='abc'"),
        ({"share": "nan"}, "share"),
        ({"share": "20%"}, "share"),
        ({"share": "true"}, "share"),
        ({"selector": "best"}, "known are attention_influence, attention_influence_residual"),
        ({"selector.kind": "best"}, "known selectors are attention_influence, attention_influence_residual"),
        ({"+selector.depth": 3}, "depth"),
        ({"unit": "pages"}, "unit='pages'"),
        ({"scope": "world"}, "scope='world'"),
        ({"shares": 0.2}, "known there: output, scope, scores, seed, selector, share, unit"),
        ({"seed": "x"}, "seed='x'"),
        ({"scores": "nowhere.parquet"}, "scores=nowhere.parquet does not exist"),
        ({"scores": "text.parquet"}, "text.parquet is not a Parquet file"),
        ({"scores": "other.parquet"}, "other.parquet has no column id (it has x)"),
        ({"scores": "none.parquet"}, "none.parquet holds no documents"),
        ({"scores": "twice.parquet"}, "twice.parquet holds the id 'a' more than once"),
        ({"scores": "holes.parquet"}, "holes.parquet has no domain in row 0"),
        ({"scores": "words.parquet"}, "words.parquet"),
        ({"output": "scores.parquet"}, "scores.parquet already exists"),
        ({"output": "out"}, "must end in .parquet"),
        ({"scores": "???"}, "scores is missing; give it as scores=..."),
    ],
    ids=lambda value: " ".join(value) + "=" + str(*value.values()) if isinstance(value, dict) else "",
)
def test_selections_that_cannot_be(select: Refused, settings: dict[str, object], told: str) -> None:
    good = pq.read_table("scores.parquet")
    Path("text.parquet").write_text("x")
    pq.write_table(pa.table({"x": [1]}), "other.parquet")
    pq.write_table(good.slice(0, 0), "none.parquet")
    pq.write_table(good.set_column(0, "id", [["a", "b", "a"]]), "twice.parquet")
    pq.write_table(good.set_column(1, "domain", [[None, "x", "y"]]), "holes.parquet")
    pq.write_table(good.set_column(3, "loss_base", [["1", "2", "3"]]), "words.parquet")
    assert told in select(**settings)


def test_probes_longer_than_the_context(refused: Refused, tmp_path: Path) -> None:
    folder = random_folder(tmp_path / "short", context=512)
    sentence = refused("heads", *_heads(folder, tmp_path), **{"probes.max_tokens": 1024})
    assert "probes of 1024 tokens do not fit the model's context of 512" in sentence


def test_a_model_without_copying_heads(refused: Refused, tmp_path: Path) -> None:
    folder = planted_folder(tmp_path / "unplanted", planted=False)
    sentence = refused("heads", *_heads(folder, tmp_path))
    assert "no head of this model copies above chance" in sentence


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("probes.count=0", "probes.count=0"),
        ("probes.max_tokens=long", "probes.max_tokens='long'"),
        ("probes.max_tokens=256", "is too short for 3 demonstrations"),
        ("probes.max_value_tokens=1", "of at most 1 tokens, and the text has 0"),
        ("detection.decoding=sampled", "detection.decoding='sampled'"),
        ("corpus=library", "there is no corpus 'library'; known are"),
        ("output=heads.txt", "must end in .json"),
    ],
)
def test_detection_that_cannot_be(
    refused: Refused, model: Path, tmp_path: Path, setting: str, told: str
) -> None:
    assert told in refused("heads", *_heads(model, tmp_path), setting)


def _heads(model: Path, folder: Path) -> list[str]:
    """The arguments of a detection with sentences from a local file."""
    from tests.unit.cli.test_cli_heads import prose

    return [
        "model=local", f"model.path={model}", "corpus=local", f"corpus.path={prose(folder / 'prose.jsonl')}",
        "probes.count=8", "probes.max_tokens=1024", "probes.max_value_tokens=40", "output=heads.json",
    ]  # fmt: skip


def test_an_unknown_command_lists_the_known(airlab: Airlab) -> None:
    answer = airlab("scores", "input=x")
    assert answer.code == 2 and answer.out == ""
    assert answer.err == (
        f"airlab: there is no command 'scores'; commands are {', '.join(VERBS)}. did you mean score?\n"
    )


@pytest.mark.parametrize("verb", ["plan", "run", "table"])
@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("experiment=nonesuch", "there is no experiment 'nonesuch'; known are evidence, air/main, "),
        ("scale=galaxy", "there is no scale 'galaxy'; known are h100, laptop, paper, smoke"),
        ("seeds=[]", "seeds"),
        ("seeds=3", "seeds=3"),
        ("training.budget=5", "there is no setting 'training.budget'; known there: batch_sequences, beta1"),
        ("+training.budget=5", "there is no setting training.budget; known there: batch_sequences, beta1"),
        ("selecting.share=2", "selecting.share=2"),
        ("selectors.random.kind=dice", "known selectors are attention_influence"),
        ("+experiment.colour=red", "colour"),
        ("machine.device=tpu", "machine.device='tpu'"),
    ],
)
def test_experiments_that_cannot_be(refused: Refused, verb: str, setting: str, told: str) -> None:
    assert told in refused(verb, setting)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["input"], "input sets nothing: settings are given as key=value"),
        (["docs.jsonl"], "docs.jsonl sets nothing"),
        (["selector@selectors.x=length"], "+selector@selectors.x=… adds one"),
        (["=x"], "=x names no setting"),
        (["input=[", "heads=h.json", "output=o.parquet"], "heads=h.json does not exist"),
        (["scoring={"], "cannot be read"),
        (["scoring.window_tokens=[1,2"], "cannot be read"),
        (["--config-name=heads"], "there is no option --config-name=heads"),
        (["--nonsense"], "there is no option --nonsense"),
        (["-x"], "there is no option -x"),
        (["~heads"], "heads"),
        (["scoring=float32,bfloat16"], "-m"),
    ],
)
def test_arguments_that_cannot_be_read(refused: Refused, arguments: list[str], told: str) -> None:
    assert told in refused("score", *arguments)


def test_a_model_folder_is_not_confused_with_its_tokenizer_alone(score: Refused, docs: Path) -> None:
    Path("only").mkdir()
    save_tokenizer(Path("only"))
    assert "it has no config.json" in score(**{"model.path": "only"})
