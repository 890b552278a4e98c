"""The import stage: nothing lost, nothing half-written."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.schema.text import Columns
from airlab.stages.import_corpus import ImportCorpus
from airlab.store.plan import Plan
from airlab.store.store import Store
from airlab.text.documents import read_documents


def write(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def run(folder: Path, path: Path, columns: Columns | None = None) -> Path:
    stage = ImportCorpus.of_path(path, columns or Columns())
    store = Store(folder / "store")
    Plan(store, [stage]).run(Machine())
    found = store.find(stage)
    assert found is not None
    return found


def test_ids_domains_text_and_order_are_the_inputs(tmp_path: Path) -> None:
    records = [{"id": f"k{600 - n}", "domain": f"d{n % 3}", "text": f"Document {n}."} for n in range(600)]
    folder = run(tmp_path, write(tmp_path / "d.jsonl", records))
    rows = list(read_documents(folder / "documents.parquet"))
    assert [(row.unit_id, row.domain, row.text) for row in rows] == [
        tuple(record.values()) for record in records
    ]
    sizes = pq.ParquetFile(folder / "documents.parquet").metadata
    assert [sizes.row_group(group).num_rows for group in range(sizes.num_row_groups)] == [256, 256, 88]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.sampled_from(["", " \n\t", "x", "A document."]), min_size=1, max_size=20))
def test_every_document_is_kept_or_skipped_with_a_reason(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    tmp_path = tmp_path_factory.mktemp("import")
    folder = run(tmp_path, write(tmp_path / "d.jsonl", [{"text": text} for text in texts]))
    kept = {row.unit_id: row.text for row in read_documents(folder / "documents.parquet")}
    skipped = pq.read_table(folder / "skipped.parquet").to_pylist()
    assert [kept.get(f"row-{number:08d}") for number in range(len(texts))] == [
        text if text.strip() else None for text in texts
    ]
    assert {row["reason"] for row in skipped} <= {"empty"}
    facts = json.loads((folder / "manifest.json").read_text())
    assert facts["in"] == len(texts) == facts["documents"] + facts["skipped"] == len(kept) + len(skipped)
    assert pq.read_metadata(folder / "documents.parquet").num_row_groups == (1 if kept else 0)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"id": "a", "text": "1"}, {"id": "b", "text": "2"}, {"id": "a", "text": "3"}], "the id 'a'"),
        ([{"id": 1, "text": "1"}, {"id": "1", "text": ""}], "the id '1'"),
        ([{"text": "1"}, {"text": 2}], "line 2"),
    ],
)
def test_a_refused_input_leaves_no_artifact_and_no_table(
    tmp_path: Path, records: list[dict], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(tmp_path, write(tmp_path / "d.jsonl", records))
    assert not [path for path in (tmp_path / "store").rglob("*.parquet") if path.is_file()]


def test_the_files_name_and_place_are_no_part_of_the_address_but_content_and_columns_are(
    tmp_path: Path,
) -> None:
    (tmp_path / "elsewhere").mkdir()
    records = [{"id": "a", "text": "1"}]
    one = ImportCorpus.of_path(write(tmp_path / "d.jsonl", records), Columns())
    moved = ImportCorpus.of_path(write(tmp_path / "elsewhere" / "e.jsonl", records), Columns())
    assert Store(tmp_path).folder(one) == Store(tmp_path).folder(moved)
    edited = ImportCorpus.of_path(write(tmp_path / "f.jsonl", [{"id": "a", "text": "2"}]), Columns())
    columns = ImportCorpus.of_path(tmp_path / "d.jsonl", Columns(default_domain="other"))
    assert len({Store(tmp_path).folder(stage) for stage in (one, edited, columns)}) == 3
