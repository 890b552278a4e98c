"""The user's own data: every format gives the same rows, every mistake one sentence."""

import gzip
import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airlab.errors import UserError
from airlab.schema.text import Columns, HubDataset
from airlab.text import records
from airlab.text.readers import Row, read_hub, read_records, read_rows
from airlab.text.records import format_of

DEFAULT = Columns()
RECORDS = [
    {"id": "b", "domain": "x", "text": "First document."},
    {"id": "a", "domain": "y", "text": "Zweites Dokument, mit Umlauten: äöü.\nTwo lines."},
    {"id": "c", "domain": "x", "text": "Third."},
]
ROWS = [Row(record["id"], record["domain"], record["text"], "str") for record in RECORDS]


def jsonl(records: list[dict]) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)


def write(folder: Path, kind: str, records: list[dict]) -> Path:
    data = jsonl(records)
    if kind == "jsonl":
        path = folder / "d.jsonl"
        path.write_bytes(data)
    elif kind == "jsonl.gz":
        path = folder / "d.jsonl.gz"
        path.write_bytes(gzip.compress(data))
    elif kind == "jsonl.zst":
        path = folder / "d.jsonl.zst"  # several frames, as `cat a.zst b.zst` makes them
        cut = len(data) // 2
        path.write_bytes(zstandard.compress(data[:cut]) + zstandard.compress(data[cut:]))
    elif kind == "parquet":
        path = folder / "d.parquet"
        pq.write_table(pa.Table.from_pylist(records), path)
    elif kind == "saved data set":
        path = folder / "saved"
        datasets.Dataset.from_list(records).save_to_disk(str(path))
    else:
        path = folder / "shards"
        path.mkdir()
        (path / "0.jsonl").write_bytes(jsonl(records[:1]))
        pq.write_table(pa.Table.from_pylist(records[1:]), path / "1.parquet")
        (path / "README.txt").write_text("not read")
    return path


def rows_of(path: Path, columns: Columns = DEFAULT) -> list[Row]:
    return list(read_rows(path, format_of(path), columns))


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet", "saved data set", "folder"])
def test_every_format_gives_the_same_rows_in_the_order_of_the_input(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, RECORDS)
    assert format_of(path) == kind
    assert rows_of(path) == ROWS


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "saved data set", "folder"])
def test_ids_come_from_positions_and_domains_from_the_default_where_there_are_none(
    tmp_path: Path, kind: str
) -> None:
    path = write(tmp_path, kind, [{"content": record["text"]} for record in RECORDS])
    found = rows_of(path, Columns(default_domain="mine"))
    assert [row.unit_id for row in found] == ["row-00000000", "row-00000001", "row-00000002"]
    assert {row.domain for row in found} == {"mine"}
    assert [row.text for row in found] == [record["text"] for record in RECORDS]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_whole_number_ids_keep_their_digits_and_say_so(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, [{"id": 7, "text": "Seven."}, {"id": -12, "text": "Minus twelve."}])
    assert [(row.unit_id, row.id_type) for row in rows_of(path)] == [("7", "int"), ("-12", "int")]


def test_configured_columns_win_over_usual_names(tmp_path: Path) -> None:
    path = write(tmp_path, "jsonl", [{"id": "1", "key": "k", "text": "no", "body": "yes", "kind": 3}])
    assert rows_of(path, Columns(text="body", id="key", domain="kind")) == [Row("k", "3", "yes", "str")]


def test_null_text_is_an_empty_document_and_null_domain_the_default(tmp_path: Path) -> None:
    path = write(tmp_path, "jsonl", [{"id": "1", "domain": None, "text": None}])
    assert rows_of(path) == [Row("1", "all", "", "str")]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(), min_size=1, max_size=6), chunk=st.integers(1, 7))
def test_zstd_lines_survive_any_border_of_chunk_and_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: list[str], chunk: int
) -> None:
    monkeypatch.setattr(records, "_CHUNK_BYTES", chunk)
    lines = [json.dumps({"text": text}).encode() + b"\n" for text in texts]
    path = tmp_path / "d.jsonl.zst"
    path.write_bytes(b"".join(zstandard.compress(line) for line in lines))
    assert [row.text for row in rows_of(path)] == texts


def expect(message: str, path: Path, columns: Columns = DEFAULT) -> None:
    with pytest.raises(UserError, match=message) as caught:
        rows_of(path, columns)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    expect("does not exist", tmp_path / "none.jsonl")


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.gz", "d.jsonl.zst", "d.parquet"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    expect("is empty", tmp_path / name)


@pytest.mark.parametrize("content", [b"\n\n", b"   \n"])
def test_a_file_of_blank_lines_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.jsonl").write_bytes(content)
    expect("holds no documents", tmp_path / "d.jsonl")


def test_a_parquet_file_without_rows_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "d.parquet")
    expect("holds no documents", tmp_path / "d.parquet")


@pytest.mark.parametrize(
    "bad", [b"{oops\n", b'{"text": "a"\n', b'{"text": "\xff\xfe"}\n', b'["list"]\n', b"3\n"]
)
def test_a_line_that_is_no_json_object_is_named_by_its_number(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(b'{"text": "a"}\n\n' + bad + b'{"text": "b"}\n')
    expect("line 3 of .* is ", path)


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "saved data set"])
def test_a_missing_text_column_lists_the_columns_there_are(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, [{"name": "a", "body": "b"}])
    expect("no text column.*name, body", path)
    expect("no column 'words' for the text.*name, body", path, Columns(text="words"))
    expect("no column 'key' for the ids", path, Columns(text="body", id="key"))


def test_a_line_without_its_text_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "jsonl", [{"text": "a"}, {"title": "b"}])
    expect("line 2 of .* has no 'text'.*title", path)


@pytest.mark.parametrize("value", [3, 2.5, ["a"], {"a": 1}, True])
def test_text_that_is_no_text_is_refused(tmp_path: Path, value: object) -> None:
    path = write(tmp_path, "jsonl", [{"text": "a"}, {"text": value}])
    expect("line 2 of .* in 'text' where text is needed", path)


def test_a_parquet_column_that_holds_no_text_is_refused(tmp_path: Path) -> None:
    expect("holds int64 in the column 'text', not text", write(tmp_path, "parquet", [{"text": 3}]))


@pytest.mark.parametrize("value", [None, 2.5, True, ["a"]])
def test_an_id_that_is_no_string_or_whole_number_is_refused(tmp_path: Path, value: object) -> None:
    path = write(tmp_path, "jsonl", [{"id": "1", "text": "a"}, {"id": value, "text": "b"}])
    expect("line 2 of .* in 'id'", path)


def test_an_unknown_file_type_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.docx").write_text("x")
    expect("unknown type", tmp_path / "d.docx")
    (tmp_path / "folder").mkdir()
    expect("neither a saved data set nor a folder", tmp_path / "folder")


def test_several_saved_splits_are_listed(tmp_path: Path) -> None:
    data = datasets.Dataset.from_list(RECORDS)
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(str(tmp_path / "both"))
    expect("several splits .test, train.", tmp_path / "both")
    assert rows_of(tmp_path / "both" / "train") == ROWS


@pytest.mark.parametrize("name", ["d.jsonl.gz", "d.jsonl.zst", "d.parquet"])
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"plain text, no archive at all")
    expect("damaged|not a readable", tmp_path / name)


@pytest.mark.parametrize("kind", ["jsonl.gz", "jsonl.zst"])
def test_a_compressed_file_cut_short_is_refused_even_between_lines(tmp_path: Path, kind: str) -> None:
    records = [{"text": f"{number} {number**7}"} for number in range(2000)]
    if kind == "jsonl.gz":
        whole = gzip.compress(jsonl(records))
    else:
        packer = zstandard.ZstdCompressor().compressobj()
        whole = packer.compress(jsonl(records)) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    path = tmp_path / f"d.{kind}"
    path.write_bytes(whole[:-4] if kind == "jsonl.gz" else whole)
    expect("damaged", path)


# The schemas of the four components on the hub, as their repositories declare them.
COMPONENTS = {
    "fineweb-edu-dedup": {"text": "Web page.", "id": "<urn:uuid:1>", "metadata": {"url": "u", "score": 3.5}},
    "cosmopedia-v2": {
        "prompt": "Write.",
        "text": "Web page.",
        "token_length": 3,
        "audience": "general",
        "format": "textbook",
        "seed_data": "web",
    },
    "open-web-math": {"url": "u", "text": "Web page.", "date": "2020", "metadata": "{}"},
}


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_streamed_component_of_the_smollm_corpus_is_read(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def load_dataset(path: str, config: str | None, **options: object) -> datasets.IterableDataset:
        asked.update(options, path=path, config=config)
        return datasets.Dataset.from_list([COMPONENTS[name]] * 3).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    hub = HubDataset(name="some/corpus", revision="0" * 40, config=name, max_documents=2)
    found = list(read_hub(hub, Columns(default_domain="web")))
    assert [(row.domain, row.text) for row in found] == [("web", "Web page.")] * 2
    assert found[0].unit_id == ("<urn:uuid:1>" if name == "fineweb-edu-dedup" else "row-00000000")
    expected = {
        "path": "some/corpus",
        "config": name,
        "revision": "0" * 40,
        "split": "train",
        "streaming": True,
    }
    assert asked == expected


def test_python_edu_says_that_its_text_lies_elsewhere() -> None:
    record = {"blob_id": "f", "repo_name": "r", "path": "p", "length_bytes": 3, "score": 3.1, "int_score": 3}
    with pytest.raises(UserError, match="Software Heritage"):
        list(read_records([record], DEFAULT, "python-edu"))


def test_an_unreachable_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the hub\nwith details")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UserError, match=r"cannot be read .Couldn't reach the hub.: check"):
        list(read_hub(HubDataset(name="some/corpus", revision="0" * 40), DEFAULT))


@pytest.mark.parametrize("revision", ["main", "3ba9d60", "v1.0", ""])
def test_a_floating_revision_is_refused(revision: str) -> None:
    with pytest.raises(ValueError, match="revision"):
        HubDataset(name="some/corpus", revision=revision)
