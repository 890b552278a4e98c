"""What is published of tokenizing is what was measured, and shows what is said of it."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import tokenizing

RECORD = tokenizing.RESULTS / f"{tokenizing.NAME}.json"


def test_the_committed_tables_are_those_of_the_committed_facts() -> None:
    assert RECORD.with_suffix(".md").read_text() == tokenizing.render(json.loads(RECORD.read_text()))


def test_the_record_names_hardware_versions_and_every_run() -> None:
    sections = json.loads(RECORD.read_text())["sections"]
    assert set(sections) == set(tokenizing.SECTIONS)
    for section in sections.values():
        assert section["provenance"]["cpu"] and section["provenance"]["packages"]["tokenizers"]
    facts = sections["rate"]["facts"]
    assert set(facts["rows"]) == {f"{name}, {n}" for name in tokenizing.CONTENDERS for n in (1, 2)}
    assert all(len(row["runs"]) == facts["repeats"] >= 3 for row in facts["rows"].values())


def test_the_record_shows_constant_memory_over_twenty_times_the_input() -> None:
    small, large, usual = json.loads(RECORD.read_text())["sections"]["memory"]["facts"]["rows"]
    assert large["text_mib"] == usual["text_mib"] == tokenizing.GROWTH * small["text_mib"] >= 200
    assert large["worker_mib"] < 1.25 * small["worker_mib"]
    assert large["starter_mib"] < 1.1 * small["starter_mib"]
    assert usual["worker_mib"] < small["worker_mib"] + usual["largest_file_mib"]


@pytest.mark.parametrize("size", [500, 5000])
def test_the_input_is_as_large_as_asked_and_repeats_no_document_as_it_was(tmp_path: Path, size: int) -> None:
    texts = [f"first {n}\nsecond\nthird\nfourth {n}\n" for n in range(20)]
    pq.write_table(tokenizing.pa.table({"text": texts}), tmp_path / "documents.parquet")
    for name in ("a", "b"):
        tokenizing.write_input(tmp_path / "documents.parquet", tmp_path / name, size, files=2)
    found = [pq.read_table(path)["text"].to_pylist() for path in sorted((tmp_path / "a").iterdir())]
    assert found == [pq.read_table(path)["text"].to_pylist() for path in sorted((tmp_path / "b").iterdir())]
    whole = [text for file in found for text in file]
    assert len(found) == 2 and size <= sum(map(len, whole)) < size + 2 * len(texts[-1])
    assert whole[:20] == texts[: len(whole)]
    again = zip(whole[20:40], texts, strict=False)
    assert all(sorted(new.splitlines()) == sorted(old.splitlines()) for new, old in again)
    assert len(whole) < 40 or whole[20:40] != texts
