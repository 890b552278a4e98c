"""Damaged files: what can be told apart and counted is quarantined, all else refused in one sentence."""

import gzip
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from random import Random

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from airlab.errors import UserError
from airlab.schema.text import Columns
from airlab.schema.traces import TraceColumns
from airlab.stages.import_traces import ImportTraces
from airlab.store.files import Files
from airlab.text import records
from airlab.text.readers import read_rows
from airlab.text.records import format_of
from tests.faults.data.importing import Outcome, documents_of, traces_of
from tests.faults.ledger import FULL, count

ROWS = [
    {"id": f"d{n}", "text": f"Text {n} {n**9}.", "prompt": f"Why {n}?", "response": f"For {n**7}."}
    for n in range(60)
]
LINES = [json.dumps(row).encode() + b"\n" for row in ROWS]


def flipped(content: bytes, random: Random, times: int = 1) -> bytes:
    """The same with some bits changed."""
    changed = bytearray(content)
    for _ in range(times):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def cut(content: bytes, random: Random) -> bytes:
    """Less of it, and something at least."""
    return content[: random.randrange(1, len(content))]


def checked_zstd(content: bytes) -> bytes:
    """With a checksum, as the command line tool writes."""
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


PACKERS: dict[str, Callable[[bytes], bytes]] = {"jsonl.gz": gzip.compress, "jsonl.zst": checked_zstd}
DAMAGES = {"bits flipped": flipped, "cut short": cut}


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_compressed_file_is_refused_or_whole(tmp_path: Path, kind: str, damage: str) -> None:
    random = Random(kind + damage)
    packed = PACKERS[kind](b"".join(LINES))
    path = tmp_path / f"d.{kind}"
    times = 1500 if FULL else 40
    for _ in range(times):
        path.write_bytes(DAMAGES[damage](packed, random))
        try:
            outcome = documents_of(path, tmp_path)
        except UserError as error:
            assert "damaged" in str(error) or "cannot read" in str(error)
        else:  # such as a flipped bit in the time that gzip keeps
            assert [row.text for row in outcome.kept] == [row["text"] for row in ROWS]
    count("data", f"{kind} with {damage}", faults=times, inputs=times)


@pytest.mark.parametrize("kind", PACKERS)
def test_members_one_after_the_other_are_read_and_trailing_rubbish_is_refused(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"d.{kind}"
    path.write_bytes(b"".join(PACKERS[kind](line) for line in LINES))
    assert len(documents_of(path, tmp_path).kept) == len(ROWS)
    with path.open("ab") as file:
        file.write(b"rubbish")
    with pytest.raises(UserError, match="damaged"):
        documents_of(path, tmp_path)
    count("data", "compressed members in a row, and rubbish after them", faults=1, inputs=2)


def parquet(path: Path, rows: list[dict], **settings: object) -> bytes:
    """Several row groups, of pages with checksums unless told otherwise."""
    pq.write_table(
        pa.Table.from_pylist(rows), path, **{"row_group_size": 10, "write_page_checksum": True, **settings}
    )
    return path.read_bytes()


def pages_of(path: Path, group: int) -> tuple[int, int]:
    """Where a row group's column of text lies."""
    column = pq.read_metadata(path).row_group(group).column(1)
    return column.data_page_offset, column.data_page_offset + column.total_compressed_size


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_a_row_group_that_cannot_be_read_is_quarantined_row_by_row_and_its_neighbours_are_kept(
    tmp_path: Path, compression: str
) -> None:
    path = tmp_path / "d.parquet"
    whole = parquet(path, ROWS, compression=compression, use_dictionary=False, write_statistics=False)
    start, end = pages_of(path, 2)
    random = Random(compression)
    times = 300 if FULL else 10
    for _ in range(times):
        at = random.randrange(start + (end - start) // 2, end)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        outcome = documents_of(path, tmp_path)
        outcome.check(len(ROWS))
        lost = [row["row"] for row in outcome.quarantined]
        assert lost == list(range(20, 30))
        assert {row["reason"] for row in outcome.quarantined} == {"an unreadable row group"}
        assert [row.unit_id for row in outcome.kept] == [f"d{n}" for n in range(60) if n not in lost]
        with pytest.raises(UserError, match=r"row 20 of .* cannot be read \(.*\): write it again"):
            list(read_rows(path, "parquet", Columns()))
    count("data", f"row groups of Parquet ({compression}) with a changed byte", faults=times, inputs=times)


@pytest.mark.parametrize("read", [documents_of, traces_of])
@pytest.mark.parametrize("checksums", [True, False])
def test_bits_flipped_anywhere_in_parquet_lose_no_row_unsaid(
    tmp_path: Path, read: Callable[[Path, Path], Outcome], checksums: bool
) -> None:
    path = tmp_path / "d.parquet"
    whole = parquet(
        path, ROWS, write_page_checksum=checksums, compression="none" if not checksums else "zstd"
    )
    random = Random(checksums)
    times = 2000 if FULL else 60
    refused = 0
    for number in range(times):
        path.write_bytes(cut(whole, random) if number % 10 == 0 else flipped(whole, random, 1 + number % 3))
        try:
            outcome = read(path, tmp_path)
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
            continue
        outcome.check(len(ROWS))
    assert 0 < refused < times
    count("data", "Parquet with flipped bits or cut short", faults=times, inputs=times)


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_one_line_of_100_mb_is_counted_in_bounded_memory_and_those_around_it_are_kept(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"d.{suffix}"
    _write_long(path, b'{"id": "long", "text": "' + b"a" * (100 << 20) + b'"}\n')
    tracemalloc.start()
    try:
        outcome = documents_of(path, tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    outcome.check(3)
    assert [row["reason"] for row in outcome.quarantined] == ["a line too long"]
    assert [row.unit_id for row in outcome.kept] == ["d0", "d1"]
    assert peak < 4 * records._LONGEST_LINE
    count("data", "100 MB on one line", faults=1, inputs=3)


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_a_million_empty_lines_take_no_memory_and_count_as_nothing(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"d.{suffix}"
    _write_long(path, b"\n" * 1_000_000)
    documents_of(path, tmp_path).check(2)
    peaks = []
    for lines in (10_000, 40_000):  # tracing takes its time
        _write_long(path, b"\n" * lines)
        tracemalloc.start()
        try:
            documents_of(path, tmp_path)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 40_000
    path.write_bytes(PACKERS.get(suffix, bytes)(b"\n" * 1_000_000))
    with pytest.raises(UserError, match="holds no documents"):
        documents_of(path, tmp_path)
    count("data", "a million empty lines", faults=2, inputs=2)


def _write_long(path: Path, middle: bytes) -> None:
    kind = path.name.removeprefix("d.")
    path.write_bytes(PACKERS.get(kind, bytes)(LINES[0] + middle + LINES[1]))


def test_shards_of_other_columns_are_counted_row_by_row(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    parquet(folder / "a.parquet", ROWS[:20])
    parquet(folder / "b.parquet", [{"id": n, "content": f"Other {n}."} for n in range(30)])
    parquet(folder / "c.parquet", [{"id": "c", "title": "No text."}] * 7)
    parquet(folder / "d.parquet", [{"id": f"n{n}", "text": n} for n in range(5)])
    pq.write_table(pa.table({"id": ["null"], "text": pa.nulls(1)}), folder / "e.parquet")
    twice = pa.table([["x"], ["y"], ["z"]], names=["id", "text", "text"])
    pq.write_table(twice, folder / "f.parquet")
    (folder / "g.jsonl").write_bytes(b"".join(LINES[:3]) + b'{"id": null, "text": "x"}\n')
    outcome = documents_of(folder, tmp_path)
    outcome.check(20 + 30 + 7 + 5 + 1 + 1 + 4)
    assert [row.unit_id for row in outcome.kept] == [f"d{n}" for n in range(20)] + [str(n) for n in range(30)]
    assert [row["unit_id"] for row in outcome.skipped] == ["null"]
    assert outcome.counts["quarantined_by_reason"] == {
        "a repeated id": 3,
        "an id of another type": 1,
        "no column for the text": 7,
        "text of another type": 5,
        "two columns of one name": 1,
    }
    assert {row["file"] for row in outcome.quarantined} == {f"{c}.parquet" for c in "cdf"} | {"g.jsonl"}
    count("data", "mixed schemas between shards", faults=5, inputs=68)


def test_traces_in_shards_of_other_columns_are_counted_row_by_row(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    parquet(folder / "a.parquet", ROWS[:20])
    parquet(folder / "b.parquet", [{"id": "b", "title": "No trace."}] * 4)
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    parquet(folder / "c.parquet", [{"id": "c", "messages": turns}] * 3)
    outcome = traces_of(folder, tmp_path)
    outcome.check(27)
    assert outcome.counts["quarantined_by_reason"] == {"no column for a trace": 7}
    count("data", "mixed schemas between shards", faults=2, inputs=27)


@pytest.mark.parametrize("bad", ["text", "arrow file", "split list"])
def test_a_damaged_saved_data_set_is_refused_in_one_sentence(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "saved"
    datasets.Dataset.from_list(ROWS).save_to_disk(str(path))
    random = Random(bad)
    for _ in range(100 if FULL else 5):
        if bad == "split list":
            (path / "dataset_dict.json").write_bytes(random.randbytes(9))
        file = path / "state.json" if bad == "text" else next(path.glob("*.arrow"))
        whole = file.read_bytes()
        file.write_bytes(cut(whole, random) if bad == "text" else flipped(cut(whole, random), random))
        try:
            documents_of(path, tmp_path).check()
        except UserError as error:
            assert len(str(error).splitlines()) == 1
        file.write_bytes(whole)
    count("data", "saved data sets, damaged", faults=100 if FULL else 5, inputs=100 if FULL else 5)


def test_text_that_is_no_text_in_parquet_is_quarantined_alone(tmp_path: Path) -> None:
    values = pa.array([b"fine", b"\xff\xfe", b"good", b"\xed\xa0\x80"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": values}), tmp_path / "d.parquet")
    outcome = documents_of(tmp_path / "d.parquet", tmp_path)
    outcome.check(4)
    assert [row.unit_id for row in outcome.kept] == ["row-00000000", "row-00000002"]
    assert [(row["row"], row["reason"]) for row in outcome.quarantined] == [
        (1, "an unreadable row"),
        (3, "an unreadable row"),
    ]
    count("data", "invalid UTF-8 in Parquet", faults=2, inputs=4)


def test_pipes_and_folders_in_the_place_of_files_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(UserError, match="no file that can be read twice"):
        format_of(tmp_path / "pipe.jsonl")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "d.jsonl").write_bytes(LINES[0])
    os.mkfifo(folder / "pipe.jsonl")
    with pytest.raises(UserError, match="pipe"):
        ImportTraces.of_path(folder, TraceColumns())
    (folder / "pipe.jsonl").unlink()
    (folder / "inner.jsonl").mkdir()
    assert len(documents_of(folder, tmp_path).kept) == 1
    (folder / "gone.jsonl").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"gone\.jsonl"):
        Files.of(folder)
    count("data", "pipes, folders and broken links", faults=4, inputs=4)
