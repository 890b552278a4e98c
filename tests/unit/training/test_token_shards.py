"""Token shards hold what one process makes of the same documents, and no row is lost without a word."""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.schema.mixture import MixtureSpec
from airlab.schema.text import Columns
from airlab.selection.mixture import TOKENIZED, TokenizedCorpus
from airlab.stages import tokenizing_worker
from airlab.stages.build_mixture import BuildMixture
from airlab.stages.import_corpus import ImportSoundCorpus
from airlab.stages.tokenize_shards import TokenizeShards
from airlab.store.files import Files
from airlab.store.plan import Plan
from airlab.store.store import Store
from airlab.text.pinned_files import local_files, with_footers
from airlab.text.row_ranges import Group, cut_into_ranges
from airlab.training.token_shards import IDS, KINDS, Source, join_shards
from airlab.training.tokenizer import DocumentEncoder, tokenize_corpus
from tests.unit.training.made_corpus import COLUMNS, row, save_tokenizer, spoil_group, write_files

BYTES = 3000
"""Text of a shard: a few row groups."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus and a tokenizer."""
    folder = tmp_path_factory.mktemp("made")
    write_files(folder / "corpus")
    save_tokenizer(folder / "tokenizer")
    return folder


def stage_of(made: Path, **changes: Any) -> TokenizeShards:
    stage = TokenizeShards(Files.of(made / "corpus"), COLUMNS, Files.of(made / "tokenizer"), BYTES)
    return dataclasses.replace(stage, **changes)


def run(stage: TokenizeShards, root: Path, processes: int = 1) -> Path:
    store = Store(root)
    Plan(store, [stage]).run(Machine(processes=processes))
    return store.open(stage)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "record.json"}


def facts_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / TOKENIZED).read_text())
    return found


@pytest.fixture(scope="module")
def finished(made: Path) -> Path:
    return run(stage_of(made), made / "store")


def test_one_two_and_three_processes_write_the_same_bytes(made: Path, finished: Path) -> None:
    assert len(facts_of(finished)["files"]) > 5
    for processes in (2, 3):
        found = run(stage_of(made), made / f"store-{processes}", processes)
        assert contents(found) == contents(finished)


def test_they_hold_what_tokenizing_the_imported_documents_gives(made: Path, finished: Path) -> None:
    corpus, store, other = (
        ImportSoundCorpus.of_path(made / "corpus", COLUMNS),
        Store(made / "store"),
        made / "one",
    )
    Plan(store, [corpus]).run(Machine())
    other.mkdir()
    tokenize_corpus(store.open(corpus) / "documents.parquet", made / "tokenizer", other)
    left, right = TokenizedCorpus.open(finished), TokenizedCorpus.open(other)
    assert left.n_empty == right.n_empty == 0
    assert (left.unit_ids, left.domains) == (right.unit_ids, right.domains)
    assert left.separator == right.separator and left.tokens.dtype == right.tokens.dtype
    for number in range(len(left.unit_ids)):
        ours, theirs = (
            c.tokens[int(c.offsets[number]) : int(c.offsets[number] + c.lengths[number])]
            for c in (left, right)
        )
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("size", [1, 700, 1 << 30])
def test_the_size_of_a_shard_changes_only_where_files_are_cut(made: Path, finished: Path, size: int) -> None:
    found = run(stage_of(made, bytes_per_shard=size), made / "store")
    few, many = facts_of(found), facts_of(finished)
    assert len(few["files"]) == {1: 15, 700: len(few["files"]), 1 << 30: 3}[size]
    whole = [b"".join((f / name).read_bytes() for name in facts_of(f)["files"]) for f in (found, finished)]
    assert whole[0] == whole[1]
    for name in ("index", "skipped", "quarantine"):
        tables = [pq.read_table(f / f"{name}.parquet") for f in (found, finished)]
        assert tables[0].sort_by("unit_id") == tables[1].sort_by("unit_id"), name
    assert {k: v for k, v in few.items() if k != "files"} == {k: v for k, v in many.items() if k != "files"}


def test_every_row_is_tokenized_skipped_or_quarantined_with_the_reason(finished: Path) -> None:
    facts, rows = facts_of(finished), [row(n) for n in range(240)]
    blank = [r for r in rows if not (r["text"] or "").strip()]
    ids = Counter(r["id"] for r in rows if r not in blank)
    assert facts["in"] == 240 == facts["tokenized"] + facts["skipped"] + facts["quarantined"]
    assert facts["skipped_by_reason"] == {"empty": len(blank)}
    assert facts["quarantined_by_reason"] == {"a repeated id": sum(n - 1 for n in ids.values())} != {}
    quarantined = pq.read_table(finished / "quarantine.parquet").to_pylist()
    for found in quarantined:
        number = 80 * int(found["file"].split("-")[1]) + found["row"]
        assert row(number)["id"] == found["unit_id"] and found["reason"] == "a repeated id"
    index = pq.read_table(finished / "index.parquet")
    assert sorted(index["unit_id"].to_pylist()) == sorted(ids)
    assert facts["n_tokens"] == sum(index["n_tokens"].to_pylist())


@settings(max_examples=25)
@given(texts=st.lists(st.none() | st.text(max_size=30), min_size=1, max_size=60), data=st.data())
def test_any_rows_in_any_cut_are_accounted_for(
    made: Path, tmp_path_factory: pytest.TempPathFactory, texts: list[str | None], data: st.DataObject
) -> None:
    """Without processes: the shards are made right here, in any order."""
    ids = data.draw(st.lists(st.integers(0, 70), min_size=len(texts), max_size=len(texts)))
    group, size = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 400))
    folder = tmp_path_factory.mktemp("rows")
    table = pa.table({"text": pa.array(texts, pa.string()), "id": pa.array(ids)})
    pq.write_table(table, folder / "train.parquet", row_group_size=group)
    where, listed = local_files(folder)
    files, groups = zip(*with_footers(where, listed, COLUMNS), strict=True)
    source = Source(where=where, files=files, ranges=tuple(cut_into_ranges(groups, size)), columns=COLUMNS)
    encoder = DocumentEncoder(made / "tokenizer")
    out = folder / "out"
    job = tokenizing_worker.TokenizingJob(
        source=source, tokenizer=encoder.to_json(), separator=0, vocabulary_size=300, folder=str(out)
    )
    shards = []
    for part in data.draw(st.permutations(source.ranges)):
        told = tokenizing_worker.tokenize(job, encoder, part, lambda rows: None)
        kinds = (*KINDS, IDS)
        shards.append((part, told, {k: out / tokenizing_worker.part_name(k, part.number) for k in kinds}))
    tables = {kind: out / f"{kind}.parquet" for kind in KINDS}
    shards.sort(key=lambda shard: shard[0].number)
    full = [str(i) for i, text in zip(ids, texts, strict=True) if (text or "").strip()]
    if not full:
        with pytest.raises(UserError, match="no document"):
            join_shards(source, shards, tables)
        return
    counts = join_shards(source, shards, tables)
    assert counts["in"] == len(texts) == counts["tokenized"] + counts["skipped"] + counts["quarantined"]
    assert counts["tokenized"] == len(set(full))
    index = pq.read_table(out / "index.parquet")
    assert index["unit_id"].to_pylist() == list(dict.fromkeys(full))
    tokens = np.concatenate([np.fromfile(p, "<u2") for p in sorted(out.glob("tokens-*.bin"))])
    first = {
        i: text for i, text in reversed(list(zip(map(str, ids), texts, strict=True))) if (text or "").strip()
    }
    for unit, offset, n in zip(
        *(index[c].to_pylist() for c in ("unit_id", "offset", "n_tokens")), strict=True
    ):
        (expected,) = encoder.encode([first[unit] or ""])
        assert np.array_equal(tokens[offset : offset + n], expected)


def test_documents_without_ids_are_numbered_over_all_files(made: Path) -> None:
    columns = Columns(text="text", default_domain="x")
    pinned = dataclasses.replace(stage_of(made), columns=columns)
    plain = made / "plain"
    plain.mkdir()
    for path in sorted((made / "corpus").iterdir()):
        pq.write_table(pq.read_table(path, columns=["text"]), plain / path.name, row_group_size=9)
    folder = run(dataclasses.replace(pinned, source=Files.of(plain)), made / "store")
    expected = [f"row-{n:08d}" for n in range(240) if (row(n)["text"] or "").strip()]
    assert pq.read_table(folder / "index.parquet")["unit_id"].to_pylist() == expected
    assert facts_of(folder)["quarantined"] == 0


def test_rows_that_cannot_be_read_are_quarantined_and_those_around_them_are_not(
    made: Path, tmp_path: Path
) -> None:
    corpus = write_files(tmp_path / "corpus")
    lost = spoil_group(corpus / "train-00001-of-00003.parquet", 2)
    folder = run(stage_of(made, source=Files.of(corpus)), tmp_path / "store", 2)
    facts = facts_of(folder)
    assert facts["quarantined_by_reason"]["an unreadable row group"] == lost
    rows = [
        r["row"] for r in pq.read_table(folder / "quarantine.parquet").to_pylist() if "unread" in r["reason"]
    ]
    assert rows == list(range(32, 32 + lost))
    assert facts["in"] == 240 == facts["tokenized"] + facts["skipped"] + facts["quarantined"]


def test_a_mixture_is_the_same_of_one_file_and_of_many(made: Path) -> None:
    spec = MixtureSpec(kind="upsample")

    def mixed(size: int) -> bytes:
        tokenized = stage_of(made, bytes_per_shard=size)
        stage = BuildMixture(tokenized, None, spec, budget_tokens=4096, context=64, seed=3)
        store = Store(made / "store")
        Plan(store, [stage]).run(Machine())
        return (store.open(stage) / "tokens.bin").read_bytes()

    assert len(mixed(1)) == 2 * 4096 and mixed(1) == mixed(BYTES)


@pytest.mark.parametrize(
    ("columns", "table", "told"),
    [
        (COLUMNS, {"prose": ["a"], "id": ["1"]}, "no column 'text'"),
        (COLUMNS, {"text": [[1]], "id": ["1"]}, "not text"),
        (COLUMNS, {"text": ["a"]}, "no column 'id'"),
        (Columns(), {"blob_id": ["a"], "length_bytes": [3]}, "Software Heritage"),
        (COLUMNS, {"text": [None], "id": ["1"]}, "no document that can be tokenized"),
    ],
)
def test_a_corpus_that_is_none_is_refused_in_a_sentence(
    made: Path, tmp_path: Path, columns: Columns, table: dict[str, Any], told: str
) -> None:
    (tmp_path / "corpus").mkdir()
    pq.write_table(pa.table(table), tmp_path / "corpus" / "train.parquet")
    stage = dataclasses.replace(stage_of(made), source=Files.of(tmp_path / "corpus"), columns=columns)
    with pytest.raises(UserError, match=told):
        run(stage, tmp_path / "store")
    assert Store(tmp_path / "store").find(stage) is None


def test_a_process_that_is_killed_is_told_and_its_shard_alone_is_made_again(
    made: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker named by a variable of the environment kills itself inside of its third shard, once."""
    from airlab.stages import tokenize_shards

    module = "tests.unit.training.dying_worker"
    original = tokenize_shards.in_processes

    def dying(name: str, *rest: Any) -> Any:
        return original(module, *rest)

    monkeypatch.setattr(tokenize_shards, "in_processes", dying)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setenv("DIES_AFTER", str(tmp_path / "died"))
    stage, store = stage_of(made), Store(tmp_path / "store")
    with pytest.raises(UserError, match="killed by signal 9"):
        Plan(store, [stage]).run(Machine())
    kept = {p.name: p.stat().st_mtime_ns for p in store.part(stage).glob("tokens-*.bin")}
    assert len(kept) == 2
    Plan(store, [stage]).run(Machine())
    folder = store.open(stage)
    assert contents(folder) == contents(finished)
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept


def groups(sizes: list[int]) -> list[Group]:
    return [Group(10, size) for size in sizes]


def test_ranges_end_before_their_text_would_be_too_large_and_at_every_file() -> None:
    found = cut_into_ranges([groups([4, 4, 4, 20, 1]), groups([]), groups([1, 0])], 10)
    assert [(r.file, r.first_group, r.groups, r.row, r.position, r.rows) for r in found] == [
        (0, 0, 2, 0, 0, 20),
        (0, 2, 1, 20, 20, 10),
        (0, 3, 1, 30, 30, 10),
        (0, 4, 1, 40, 40, 10),
        (2, 0, 2, 0, 50, 20),
    ]
    assert [r.number for r in found] == list(range(5))


@given(
    files=st.lists(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 99)), max_size=9), max_size=5),
    size=st.integers(1, 200),
    most=st.none() | st.integers(1, 100),
)
def test_ranges_cover_the_first_rows_once_and_in_order(
    files: list[list[tuple[int, int]]], size: int, most: int | None
) -> None:
    held = [[Group(*g) for g in file] for file in files]
    found = cut_into_ranges(held, size, most)
    rows = [r.position + n for r in found for n in range(r.rows)]
    total = sum(g.rows for file in held for g in file)
    assert rows == list(range(total if most is None else min(most, total)))
    for r in found:
        inside = held[r.file][r.first_group : r.first_group + r.groups]
        assert r.row == sum(g.rows for g in held[r.file][: r.first_group])
        assert len(inside) == 1 or sum(g.text_bytes for g in inside) <= size
