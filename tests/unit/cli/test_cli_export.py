"""`airlab export`: what was selected comes out whole, in order, with its scores, as others read it."""

import ast
import datetime
import gzip
import hashlib
import io
import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.unit.cli.conftest import Airlab, Answer, Refused, documents, write_jsonl

COUNT = 40
PICKED = (31, 4, 5, 22, 17, 0, 39)
"""Rows, in no order: a user may sort a selection."""


def rows() -> list[dict[str, Any]]:
    """Documents with columns of their own, some only here and there."""
    found: list[dict[str, Any]] = documents(COUNT)
    for number, row in enumerate(found):
        row |= {"license": ("mit", "cc0-1.0", None)[number % 3], "tags": ["x"] * (number % 2)}
        if number % 4 == 1:
            row["url"] = f"https://example.org/{number}"
    return found


def select(picked: tuple[int, ...] = PICKED, path: str = "selected.parquet") -> dict[str, float]:
    """What `airlab select` leaves, without a word about its making; scores by id."""
    given = rows()
    scores = {str(given[n]["id"]): 1.0 + n / 7 for n in picked}
    columns = {
        "id": list(scores),
        "domain": [given[n]["domain"] for n in picked],
        "n_tokens": pa.array([10] * len(picked), pa.int64()),
        "score": pa.array(scores.values(), pa.float64()),
    }
    pq.write_table(pa.table(columns), path)
    return scores


Export = Callable[..., Answer]


@pytest.fixture
def export(airlab: Airlab, model: Path) -> Export:
    """Export documents that were selected; must succeed unless told otherwise."""

    def call(output: str, *more: str, code: int = 0, **settings: object) -> Answer:
        given = {"input": "docs.jsonl", "selected": "selected.parquet", **settings}
        if any(f"format={form}" in more for form in ("nanogpt", "olmo")):
            more = ("model=local", f"model.path={model}", *more)
        answer = airlab("export", *(f"{k}={v}" for k, v in given.items()), f"output={output}", *more)
        assert answer.code == code, answer.err
        return answer

    return call


@pytest.fixture
def expected(airlab: Airlab) -> list[dict[str, Any]]:
    """Documents and selection as files, and what is to come out."""
    write_jsonl(Path("docs.jsonl"), rows())
    scores = select()
    return [{**row, "score": scores[row["id"]]} for row in rows() if row["id"] in scores]


def json_lines(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    elif path.suffix == ".zst":
        data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
    return [json.loads(line) for line in data.splitlines()]


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_json_lines_hold_the_given_records_in_their_order(export: Export, expected, ending: str) -> None:
    answer = export(f"out{ending}")
    found = json_lines(Path(f"out{ending}"))
    assert found == expected
    assert [list(row) for row in found] == [list(row) for row in expected], "no column is added or moved"
    assert answer.out == f"out{ending}: 7 of 40 documents (33 not selected)\n"
    first = Path(f"out{ending}").read_bytes()
    Path(f"out{ending}").unlink()
    export(f"out{ending}")
    assert Path(f"out{ending}").read_bytes() == first


def test_parquet_of_json_lines_has_every_column_of_any_record(export: Export, expected) -> None:
    export("out.parquet")
    table = pq.read_table("out.parquet")
    assert table.column_names == ["id", "text", "domain", "license", "tags", "score", "url"]
    assert table.to_pylist() == [{"url": None, **row} for row in expected]
    assert table.schema.field("tags").type == pa.list_(pa.string())


def test_numbers_of_two_kinds_become_one_and_other_mixtures_are_refused(
    export: Export, expected, refused: Refused
) -> None:
    given = rows()
    for number, row in enumerate(given):
        row["size"] = number if number % 2 else number + 0.5
    write_jsonl(Path("docs.jsonl"), given)
    export("out.parquet")
    assert pq.read_table("out.parquet")["size"].type == pa.float64()
    given[22]["size"] = "large"
    write_jsonl(Path("docs.jsonl"), given)
    said = refused("export", input="docs.jsonl", selected="selected.parquet", output="other.parquet")
    assert "the column 'size' holds values that fit no one type" in said and "export to .jsonl" in said
    export("other.jsonl")


def arrow_rows() -> pa.Table:
    """Columns that JSON does not know."""
    given = rows()
    day = datetime.datetime(2020, 1, 1, 12, tzinfo=datetime.UTC)
    return pa.table(
        {
            "id": pa.array([row["id"] for row in given]),
            "text": pa.array([row["text"] for row in given], pa.large_string()),
            "seen": pa.array(
                [day + datetime.timedelta(hours=n) for n in range(COUNT)], pa.timestamp("us", "UTC")
            ),
            "weight": pa.array([n / 3 for n in range(COUNT)], pa.float32()),
            "small": pa.array([n % 100 for n in range(COUNT)], pa.int8()),
            "kind": pa.array(["ab"[n % 2] for n in range(COUNT)]).dictionary_encode(),
            "nested": pa.array([{"a": [n], "b": None if n % 3 else "x"} for n in range(COUNT)]),
            "raw": pa.array([bytes([n]) for n in range(COUNT)], pa.binary()),
        }
    )


def test_parquet_of_parquet_is_the_same_rows_and_types(export: Export, refused: Refused) -> None:
    table = arrow_rows()
    pq.write_table(table, "docs.parquet", row_group_size=7)
    scores = select()
    export("out.parquet", input="docs.parquet")
    kept = table.filter(pc.is_in(table["id"], pa.array(list(scores))))
    ids = kept["id"].to_pylist()
    found = pq.read_table("out.parquet")
    assert found.schema.equals(table.schema.append(pa.field("score", pa.float64())))
    assert found.equals(kept.append_column("score", pa.array([scores[unit_id] for unit_id in ids])))
    said = refused("export", input="docs.parquet", selected="selected.parquet", output="out.jsonl")
    assert "the column 'seen' holds what JSON cannot say" in said and ".parquet" in said


def test_a_folder_of_files_is_one_input(export: Export, expected) -> None:
    Path("docs").mkdir()
    write_jsonl(Path("docs/a.jsonl"), rows()[:15])
    with gzip.open("docs/b.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows()[15:])
    export("out.jsonl", input="docs")
    assert json_lines(Path("out.jsonl")) == expected


def test_a_hubs_data_set_is_read_at_its_commit(
    export: Export, expected, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load_dataset(name: str, config: str | None, **options: object) -> datasets.IterableDataset:
        asked.append((name, options))
        return datasets.Dataset.from_list([{"url": None, **row} for row in rows()]).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    hub = f"{{name: owner/data, revision: {'a' * 40}}}"
    for output in ("out.jsonl", "out.parquet"):
        export(output, input="null", **{"input.hub": hub})
    assert json_lines(Path("out.jsonl")) == [{"url": None, **row} for row in expected]
    assert pq.read_table("out.parquet")["score"].to_pylist() == [row["score"] for row in expected]
    assert {name for name, _ in asked} == {"owner/data"}
    assert all(options["revision"] == "a" * 40 and options["streaming"] for _, options in asked)


def test_documents_without_ids_are_known_by_their_place(export: Export, airlab: Airlab) -> None:
    write_jsonl(Path("docs.jsonl"), [{"text": f"text {n}"} for n in range(5)])
    table = pa.table(
        {
            "id": ["row-00000001", "row-00000004"],
            "domain": ["all"] * 2,
            "n_tokens": [3, 3],
            "score": [1.0, 2.0],
        }
    )
    pq.write_table(table, "selected.parquet")
    export("out.jsonl")
    assert json_lines(Path("out.jsonl")) == [
        {"text": "text 1", "score": 1.0},
        {"text": "text 4", "score": 2.0},
    ]


def test_a_column_named_score_is_not_overwritten(export: Export, expected, refused: Refused) -> None:
    write_jsonl(Path("docs.jsonl"), [{**row, "score": "own"} for row in rows()])
    said = refused("export", input="docs.jsonl", selected="selected.parquet", output="out.jsonl")
    assert "has a column 'score' of its own" in said and "score_column=" in said
    export("out.jsonl", score_column="influence")
    found = json_lines(Path("out.jsonl"))
    assert [r["influence"] for r in found] == [r["score"] for r in expected]
    assert {r["score"] for r in found} == {"own"}


def card(folder: str) -> tuple[dict[str, Any], str]:
    text = (Path(folder) / "README.md").read_text(encoding="utf-8")
    header = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert header is not None
    return yaml.safe_load(header[1]), text[header.end() :]


def test_a_data_set_loads_from_disk_and_as_a_hub_would_load_it(
    export: Export, expected, tmp_path: Path
) -> None:
    export("chosen", "format=dataset")
    assert sorted(p.name for p in Path("chosen").iterdir()) == [
        "README.md", "data-00000-of-00001.arrow", "dataset_info.json", "state.json",
    ]  # fmt: skip
    data = datasets.load_from_disk("chosen")
    assert data.to_list() == [{"url": None, **row} for row in expected]
    assert str(Path.cwd()) not in "".join(p.read_text() for p in Path("chosen").glob("*.json"))
    builder = datasets.load_dataset_builder("chosen", cache_dir=str(tmp_path / "hub"))
    builder.download_and_prepare()
    assert builder.as_dataset("train").to_list() == data.to_list()
    header, body = card("chosen")
    assert header["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data-*.arrow"}]}
    ]
    assert header["license"] == "other" and header["size_categories"] == ["n<1K"]
    # Rows 0, 39 are mit; 4, 31, 22 cc0; 5, 17 say nothing.
    for line in ("| cc0-1.0 | 3 |", "| mit | 2 |", "| not said | 2 |", "7 of 40 documents"):
        assert line in body
    assert "No column of the input says the source" in body
    assert "does not say by which selector" in body
    for paper in ("2505.07293", "2512.13279", "@software{airlab"):
        assert paper in body


def test_features_of_a_saved_data_set_stay_what_they_are(export: Export, expected, tmp_path: Path) -> None:
    labels = datasets.ClassLabel(names=["a", "b"])
    features = datasets.Features(
        {"id": datasets.Value("string"), "text": datasets.Value("string"), "label": labels}
    )
    made = {
        "id": [r["id"] for r in rows()],
        "text": [r["text"] for r in rows()],
        "label": [n % 2 for n in range(COUNT)],
    }
    datasets.Dataset.from_dict(made, features=features).save_to_disk(str(tmp_path / "saved"))
    export("chosen", "format=dataset", input=tmp_path / "saved")
    data = datasets.load_from_disk("chosen")
    assert data.features == {**features, "score": datasets.Value("float64")}
    assert data["id"][:] == [row["id"] for row in expected]


def test_the_card_tells_how_scores_and_selection_were_made(
    airlab: Airlab, model: Path, heads: Path, export: Export
) -> None:
    """The practitioner's own three commands."""
    write_jsonl(Path("docs.jsonl"), rows())
    found = airlab(
        "score",
        "model=local",
        f"model.path={model}",
        f"heads={heads}",
        "input=docs.jsonl",
        "output=scores.parquet",
    )
    assert found.code == 0, found.err
    assert (
        airlab(
            "select", "scores=scores.parquet", "share=0.25", "selector=loss_band", "output=selected.parquet"
        ).code
        == 0
    )
    export("chosen", "format=dataset")
    selected = pq.read_table("selected.parquet")
    data = datasets.load_from_disk("chosen")
    assert data["id"][:] == selected["id"].to_pylist() and data["score"][:] == selected["score"].to_pylist()
    _, body = card("chosen")
    identity = pq.read_schema("scores.parquet").metadata[b"airlab_identity"].decode()
    assert (
        "- Selector: `loss_band`" in body
        and "- Share: 0.25 of the documents, within each domain; seed 0" in body
    )
    assert f"- Scores: fingerprint `{identity}`, of each document" in body
    assert hashlib.sha256(heads.read_bytes()).hexdigest() in body
    assert "a local one, weights' content hash `" in body and str(model) not in body
    tokens = {
        d: int(pc.sum(selected.filter(pc.equal(selected["domain"], d))["n_tokens"]).as_py()) for d in "ab"
    }
    for domain, count in tokens.items():
        assert f"| {domain} | 5 | {count} |" in body


def test_memory_does_not_grow_with_the_input(expected) -> None:
    """Of 100 MB of documents half are exported, by a process that may grow by less."""
    count = 6000
    with Path("docs.jsonl").open("w") as file:
        for number in range(count):
            file.write(json.dumps({"id": f"d{number}", "text": f"{number} " * 3500}) + "\n")
    ids, n = [f"d{n}" for n in range(0, count, 2)], count // 2
    columns = {"id": ids, "domain": ["a"] * n, "n_tokens": [1] * n, "score": [0.5] * n}
    pq.write_table(pa.table(columns), "selected.parquet")
    code = """
import resource, sys
import airlab.cli.export, datasets
from airlab.cli.main import dispatch
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for output in ("out.jsonl", "out.parquet"):
    assert dispatch(["export", "input=docs.jsonl", "selected=selected.parquet", f"output={output}"]) == 0
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path("docs.jsonl").stat().st_size > 100e6
    assert int(done.stderr.splitlines()[-1]) < 60, "MiB"


SPELLS = "ends <eos> or not"


@pytest.fixture
def spelled(expected) -> list[dict[str, Any]]:
    """One of the selected documents spells the end-of-text token."""
    given = rows()
    given[22]["text"] = SPELLS
    write_jsonl(Path("docs.jsonl"), given)
    return [{**row, "text": SPELLS} if row["id"] == given[22]["id"] else row for row in expected]


def in_words(ids: np.ndarray, model: Path) -> list[str]:
    """Documents of a stream of tokens: each closed by the end-of-text token, as trainers divide them."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert ids[-1] == tokenizer.eos_token_id
    ends = np.flatnonzero(ids == tokenizer.eos_token_id)
    starts = [0, *(ends[:-1] + 1)]
    return [tokenizer.decode(ids[a:b].tolist()) for a, b in zip(starts, ends.tolist(), strict=True)]


def test_nanogpt_reads_the_very_texts(export: Export, spelled, model: Path) -> None:
    export("gpt", "format=nanogpt", val_share=0.3)
    # As train.py does.
    streams = {name: np.memmap(f"gpt/{name}.bin", dtype=np.uint16, mode="r") for name in ("train", "val")}
    with Path("gpt/meta.pkl").open("rb") as file:
        meta = pickle.load(file)  # noqa: S301
    assert meta == {"vocab_size": max(AutoTokenizer.from_pretrained(model).get_vocab().values()) + 1}
    texts = {name: in_words(np.array(ids), model) for name, ids in streams.items()}
    assert len(texts["val"]) == 2 and len(texts["train"]) == 5
    given = [row["text"] for row in spelled]
    assert SPELLS in given and sorted(texts["train"] + texts["val"]) == sorted(given)
    for name in streams:
        assert texts[name] == [text for text in given if text in texts[name]], "in the order of the input"
    facts = json.loads(Path("gpt/meta.json").read_text())
    assert facts["tokens_by_file"] == {f"{name}.bin": len(ids) for name, ids in streams.items()}
    index = pq.read_table("gpt/documents.parquet").to_pylist()
    assert [row["id"] for row in index] == [row["id"] for row in spelled]
    tokenizer = AutoTokenizer.from_pretrained(model)
    for place, row in zip(index, spelled, strict=True):
        own = streams[place["file"].removesuffix(".bin")][place["start"] : place["end"]]
        assert tokenizer.decode(own[:-1].tolist()) == row["text"] and own[-1] == tokenizer.eos_token_id
    export("again", "format=nanogpt", val_share=0.3)
    assert Path("again/val.bin").read_bytes() == Path("gpt/val.bin").read_bytes()


def test_olmo_reads_the_very_texts_whatever_the_size_of_files(export: Export, spelled, model: Path) -> None:
    export("one", "format=olmo")
    export("many", "format=olmo", tokens_per_file=60)
    whole = np.memmap("one/part-00000.npy", mode="r", dtype=np.uint16)
    assert in_words(np.array(whole), model) == [row["text"] for row in spelled]
    parts = sorted(Path("many").glob("part-*.npy"))
    assert len(parts) > 2 and [p.name for p in parts] == [f"part-{n:05d}.npy" for n in range(len(parts))]
    assert b"".join(part.read_bytes() for part in parts) == Path("one/part-00000.npy").read_bytes()
    eos = AutoTokenizer.from_pretrained(model).eos_token_id
    for part in parts:
        ids = np.memmap(part, mode="r", dtype=np.uint16)
        # As olmo_core.data.utils writes and reads them.
        ends = [int(end) + 1 for end in np.flatnonzero(ids == eos)]
        borders = list(zip([0, *ends[:-1]], ends, strict=True))
        with gzip.open(part.with_suffix(".csv.gz"), "rt") as file:
            told = [tuple(int(n) for n in line.split(",")) for line in file]
        assert told == borders and ends[-1] == len(ids)
        assert len(borders) == 1 or borders[-1][0] < 60, "a file is closed with the document that fills it"
    header, body = card("one")
    assert "configs" not in header and f"eos_token_id={eos}," in body and "NumpyDatasetDType.uint16" in body


def wide_folder(folder: Path) -> Path:
    """A tokenizer with a token that 16 bits cannot hold, though its vocabulary has gaps and is small."""
    vocabulary = {"<eos>": 0, "a": 1, "b": 70_000}
    fast = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocabulary, [])), eos_token="<eos>")
    fast.save_pretrained(folder)
    (folder / "config.json").write_text("{}")
    return folder


def test_tokens_that_16_bits_cannot_hold_are_never_cut(
    airlab: Airlab, refused: Refused, tmp_path: Path
) -> None:
    wide = wide_folder(tmp_path / "wide")
    write_jsonl(Path("docs.jsonl"), [{"id": str(n), "text": "ab" * n} for n in range(1, 4)])
    pq.write_table(
        pa.table({"id": ["1", "3"], "domain": ["a"] * 2, "n_tokens": [1, 1], "score": [1.0, 1.0]}),
        "s.parquet",
    )
    given = {"model": "local", "model.path": wide, "input": "docs.jsonl", "selected": "s.parquet"}
    said = refused("export", **given, format="nanogpt", output="gpt")
    assert "tokens up to number 70000, and nanoGPT reads 16 bits" in said
    answer = airlab("export", *(f"{k}={v}" for k, v in given.items()), "format=olmo", "output=olmo")
    assert answer.code == 0, answer.err
    ids = np.memmap("olmo/part-00000.npy", mode="r", dtype=np.uint32)
    assert ids.tolist() == [1, 70_000, 0, *[1, 70_000] * 3, 0]
    assert "NumpyDatasetDType.uint32" in card("olmo")[1]


def python_block(body: str) -> str:
    found = re.search(r"```python\n(.*?)```", body, re.DOTALL)
    assert found is not None
    ast.parse(found[1])
    return found[1]


@pytest.mark.parametrize(
    ("column", "said"), [("text", "TextProcessor.Config(),"), ("body", 'record["body"]')]
)
def test_torchtitan_reads_the_very_texts(export: Export, expected, column: str, said: str) -> None:
    named = [{column if k == "text" else k: v for k, v in row.items()} for row in rows()]
    write_jsonl(Path("docs.jsonl"), named)
    export("titan", "format=torchtitan", **({} if column == "text" else {"input.text": column}))
    assert sorted(p.name for p in Path("titan").iterdir()) == ["README.md", "documents.jsonl"]
    # As torchtitan's IndexedJsonlSource does: byte offsets of lines, each read for itself.
    offsets = []
    with Path("titan/documents.jsonl").open("rb") as file:
        while True:
            offset = file.tell()
            line = file.readline()
            if not line:
                break
            offsets.append(offset)
        file.seek(offsets[3])
        assert json.loads(file.readline())[column] == expected[3]["text"]
    assert len(offsets) == len(expected)
    header, body = card("titan")
    assert header["configs"][0]["data_files"][0]["path"] == "documents.jsonl"
    assert said in python_block(body)


def test_lines_for_other_trainers_are_python(export: Export, expected) -> None:
    for form in ("dataset", "olmo"):
        export(form, f"format={form}")
        python_block(card(form)[1])


def test_reasoning_traces_are_exported_as_they_are(export: Export, refused: Refused, model: Path) -> None:
    given = [{"id": f"d{n}", "prompt": f"{n}?", "response": "So it is.", "domain": "a"} for n in range(9)]
    write_jsonl(Path("docs.jsonl"), given)
    pq.write_table(
        pa.table({"id": ["d3", "d7"], "domain": ["a"] * 2, "n_tokens": [3, 3], "score": [1.0, 2.0]}),
        "selected.parquet",
    )
    export("out.jsonl")
    assert json_lines(Path("out.jsonl")) == [{**given[3], "score": 1.0}, {**given[7], "score": 2.0}]
    files = {"input": "docs.jsonl", "selected": "selected.parquet", "model": "local", "model.path": model}
    said = refused("export", **files, format="olmo", output="tokens")
    assert "has no text" in said and "format=dataset" in said


def doubled_selection() -> None:
    table = pq.read_table("selected.parquet")
    pq.write_table(pa.concat_tables([table, table.slice(2, 1)]), "selected.parquet")


def doubled_input() -> None:
    write_jsonl(Path("docs.jsonl"), [*rows(), rows()[22]])


def shorter_input() -> None:
    write_jsonl(Path("docs.jsonl"), rows()[:30])


def broken_input() -> None:
    lines = Path("docs.jsonl").read_text().splitlines()
    lines[22] = lines[22][:-5]
    Path("docs.jsonl").write_text("\n".join(lines))


def nothing_selected() -> None:
    pq.write_table(pq.read_table("selected.parquet").slice(0, 0), "selected.parquet")


@pytest.mark.parametrize(
    ("change", "settings", "said"),
    [
        (shorter_input, {}, "2 of 7 selected ids are not in docs.jsonl"),
        (broken_input, {}, "1 of 7 selected ids are not in docs.jsonl"),
        (doubled_selection, {}, "more than once"),
        (doubled_input, {}, "of a selected document before it"),
        (nothing_selected, {}, "the selection is empty"),
        (lambda: Path("out.jsonl").touch(), {}, "out.jsonl already exists"),
        (None, {"output": "out"}, "does not say what to write"),
        (None, {"output": "out.csv"}, "does not say what to write"),
        (None, {"output": "missing/out.jsonl"}, "the folder missing does not exist"),
        (None, {"format": "dataset"}, "is a folder, and output=out.jsonl ends in .jsonl"),
        (None, {"format": "csv", "output": "out"}, "format='csv' is not possible"),
        (None, {"format": "checkpoint", "output": "out"}, "is of an experiment's cell"),
        (None, {"selected": "other.parquet"}, "selected=other.parquet does not exist"),
        (None, {"selected": "docs.jsonl"}, "is not a Parquet file"),
        (None, {"input": "other.jsonl"}, "other.jsonl does not exist"),
        (None, {"settings": "seeds=[3]"}, "settings are those of a cell's run"),
        (None, {"cell": "air/main/laptop/random/seed-0"}, "leave out input and selected"),
        (None, {"val_share": 0}, "val_share=0"),
        (None, {"format": "nanogpt", "output": "out", "val_share": 0.99}, "leave none to train on"),
        (None, {"format": "torchtitan", "output": "out", "input.text": "url"}, "has no text in url"),
        (None, {"input.id": "url"}, "7 of 7 selected ids are not in docs.jsonl"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_mistakes_are_refused_in_a_sentence_and_leave_nothing(
    expected,
    refused: Refused,
    model: Path,
    change: Callable[[], None] | None,
    settings: dict[str, object],
    said: str,
) -> None:
    if change is not None:
        change()
    given = {"input": "docs.jsonl", "selected": "selected.parquet", "output": "out.jsonl", **settings}
    if given.get("format") == "nanogpt":
        given |= {"model": "local", "model.path": model}
    assert said in refused("export", **given)


def test_a_selection_without_its_columns_is_refused(expected, refused: Refused) -> None:
    pq.write_table(pq.read_table("selected.parquet").drop(["score"]), "selected.parquet")
    said = refused("export", input="docs.jsonl", selected="selected.parquet", output="out.jsonl")
    assert "has no column score" in said and "airlab select" in said


def test_what_a_killed_export_left_is_no_output_and_goes_away(export: Export, expected) -> None:
    """A process that is killed leaves its unfinished folder under a hidden name, and no lock."""
    Path(".writing-chosen").mkdir()
    Path(".writing-chosen/rows.parquet").write_bytes(b"half")
    export("chosen", "format=dataset")
    assert len(datasets.load_from_disk("chosen")) == len(expected)
    assert sorted(p.name for p in Path().iterdir()) == ["chosen", "docs.jsonl", "selected.parquet"]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view()])
def test_tables_that_another_library_wrote_again_are_read(
    airlab: Airlab, export: Export, kind: pa.DataType
) -> None:
    write_jsonl(Path("docs.jsonl"), rows())
    given = rows()
    losses = {name: [1.0 + n / 7 for n in range(COUNT)] for name in ("loss_base", "loss_ref", "entropy")}
    table = pa.table(
        {
            "id": [str(row["id"]) for row in given],
            "domain": [row["domain"] for row in given],
            "n_tokens": [10] * COUNT,
            **losses,
            "attention_influence": [float(n * 7 % 11) for n in range(COUNT)],
        }
    )
    found = []
    for name, to in (("ours", pa.string()), ("theirs", kind)):
        again = pa.table(
            {c: table[c].cast(to) if c in ("id", "domain") else table[c] for c in table.column_names}
        )
        pq.write_table(again, f"{name}.parquet")
        assert airlab("select", f"scores={name}.parquet", f"output={name}-selected.parquet").code == 0
        selected = pq.read_table(f"{name}-selected.parquet")
        pq.write_table(selected.set_column(0, "id", selected["id"].cast(to)), f"{name}-selected.parquet")
        export(f"{name}.jsonl", selected=f"{name}-selected.parquet")
        found.append(Path(f"{name}.jsonl").read_text())
    assert found[0] == found[1] and found[0].count("\n") > 1
