"""From table to table: how documents are grouped, read ahead and saved changes no loss and loses none."""

import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from airlab.errors import UserError
from airlab.heads.mask import HeadMask
from airlab.models.load import load_causal_lm
from airlab.schema.machine import Machine
from airlab.schema.scoring import Scoring
from airlab.scoring import losses as scoring
from airlab.scoring.losses import measure_documents
from airlab.stages.measure_losses import MeasureLosses
from airlab.store.files import Files
from airlab.store.fingerprint import fingerprint
from airlab.store.plan import Plan
from airlab.store.store import Store
from airlab.text import documents as table
from airlab.text import tokens
from airlab.text.documents import ROWS_PER_GROUP, cut_into_shards
from airlab.text.tokens import encode_documents
from tests.unit.scoring.made_stage import scoring_stage

COUNT = 1100
SHORT = (3, 255, 256, 700, COUNT - 1)
SUMS = ["loss_sum_base", "loss_sum_ref", "entropy_sum_base"]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> MeasureLosses:
    return scoring_stage(tmp_path_factory.mktemp("given"), COUNT, SHORT)


def measure(stage: MeasureLosses, root: Path, documents_per_shard: int = 256) -> Path:
    Plan(Store(root), [stage]).run(Machine(documents_per_shard=documents_per_shard))
    return Store(root).folder(stage)


def read(folder: Path, name: str = "losses") -> pa.Table:
    return pq.read_table(folder / f"{name}.parquet")


def corpus(stage: MeasureLosses, root: Path) -> Path:
    return Store(root).folder(stage.corpus) / "documents.parquet"


def assert_same_losses(found: pa.Table, expected: pa.Table) -> None:
    same = ["unit_id", "parent_id", "domain", "n_tokens"]
    assert found.select(same).equals(expected.select(same))
    for name in SUMS:
        np.testing.assert_allclose(found[name].to_numpy(), expected[name].to_numpy(), rtol=1e-6)


@pytest.fixture(scope="module")
def reference(stage: MeasureLosses, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measure(stage, tmp_path_factory.mktemp("reference"))


def test_the_table_is_what_scoring_all_documents_at_once_gives(stage: MeasureLosses, reference: Path) -> None:
    source = pq.read_table(corpus(stage, reference.parents[1]))
    assert isinstance(stage.model, Files)
    lm = load_causal_lm(stage.model.path)
    ids = encode_documents(lm.tokenizer, source["text"].to_pylist())
    usable = np.array([len(i) > 1 for i in ids])
    sums = measure_documents(
        lm,
        HeadMask(((1, 2),)).reference(lm.device),
        [i for i in ids if len(i) > 1],
        window_tokens=2048,
        tokens_per_batch=4096,
    )
    losses, skipped = read(reference), read(reference, "skipped")
    assert losses["unit_id"].to_pylist() == source["unit_id"].filter(pa.array(usable)).to_pylist()
    assert losses["n_tokens"].to_pylist() == [s.n_tokens for s in sums]
    for name, kind in zip(SUMS, ("base", "reference", "entropy"), strict=True):
        np.testing.assert_allclose(losses[name].to_numpy(), [getattr(s, kind) for s in sums], rtol=1e-6)
    assert skipped["unit_id"].to_pylist() == [source["unit_id"][i].as_py() for i in SHORT]
    assert set(skipped["reason"].to_pylist()) == {"fewer than two tokens: nothing to predict"}
    assert losses.num_rows + skipped.num_rows == source.num_rows == COUNT


@pytest.mark.parametrize("size", [512, 1024, 8192])
def test_the_size_of_a_shard_does_not_matter(
    stage: MeasureLosses, reference: Path, tmp_path: Path, size: int
) -> None:
    folder = measure(stage, tmp_path, size)
    assert_same_losses(read(folder), read(reference))
    assert read(folder, "skipped").equals(read(reference, "skipped"))
    record, other = Store(tmp_path).record(stage), Store(reference.parents[1]).record(stage)
    assert record is not None and other is not None and record.notes == other.notes
    assert record.fingerprint == other.fingerprint == fingerprint(stage)
    assert sorted(p.name for p in folder.iterdir()) == ["losses.parquet", "record.json", "skipped.parquet"]


def test_long_documents_are_read_and_saved_in_smaller_pieces_with_the_same_losses(
    stage: MeasureLosses, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    encode = tokens.encode_documents

    def noted(tokenizer: object, texts: list[str]) -> list[np.ndarray]:
        calls.append(texts)
        return encode(tokenizer, texts)

    monkeypatch.setattr(tokens, "_TEXT_AT_ONCE", 100)
    monkeypatch.setattr(tokens, "encode_documents", noted)
    monkeypatch.setattr(table, "SHARD_BYTES", 1)
    folder = measure(stage, tmp_path, 8192)
    for name in ("losses", "skipped"):
        assert (folder / f"{name}.parquet").read_bytes() == (reference / f"{name}.parquet").read_bytes()
    assert sum(map(len, calls)) == COUNT and len(calls) > 300
    assert all(sum(map(len, texts)) <= 100 or len(texts) == 1 for texts in calls)


def test_shards_are_whole_row_groups_within_both_bounds(
    stage: MeasureLosses, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = pq.read_metadata(corpus(stage, reference.parents[1]))
    sizes = lambda n: [(s.first, s.documents, s.groups) for s in cut_into_shards(metadata, n)]  # noqa: E731
    assert sizes(512) == [(0, 512, (0, 1)), (512, 512, (2, 3)), (1024, 76, (4,))]
    assert sizes(256) == [(256 * i, min(256, COUNT - 256 * i), (i,)) for i in range(5)]
    assert sizes(8192) == [(0, COUNT, (0, 1, 2, 3, 4))]
    text = [metadata.row_group(i).column(2).total_uncompressed_size for i in range(5)]
    monkeypatch.setattr(table, "SHARD_BYTES", max(text[0] + text[1], text[2] + text[3]))
    assert sizes(8192) == [(0, 512, (0, 1)), (512, 512, (2, 3)), (1024, 76, (4,))]


@pytest.mark.parametrize("size", [0, -256, 100, 257])
def test_a_shard_cannot_cut_a_row_group(size: int) -> None:
    with pytest.raises(ValidationError):
        Machine(documents_per_shard=size)
    assert Machine(documents_per_shard=ROWS_PER_GROUP).documents_per_shard == ROWS_PER_GROUP


class Stop(Exception):
    """Raised in the middle of a run."""


def fail_at_shard(monkeypatch: pytest.MonkeyPatch, number: int, error: BaseException) -> None:
    calls = iter(range(number))

    def measured(*arguments: object, **settings: object) -> object:
        if next(calls, None) is None:
            raise error
        return measure_documents(*arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(scoring, "measure_documents", measured)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Stop("in scoring")], ids=["ctrl-c", "error"])
def test_what_ends_scoring_ends_reading_and_keeps_finished_shards(
    stage: MeasureLosses,
    reference: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    with monkeypatch.context() as patch, pytest.raises(type(error)):
        fail_at_shard(patch, 2, error)
        measure(stage, tmp_path)
    assert [t.name for t in threading.enumerate() if t.name.startswith("ahead")] == []
    saved = sorted(p.name for p in (Store(tmp_path).part(stage) / "shards").iterdir())
    assert saved == [
        f"{kind}-{first:012d}-{first + 255:012d}.parquet"
        for kind in ("losses", "skipped")
        for first in (0, 256)
    ]
    folder = measure(stage, tmp_path)
    for name in ("losses", "skipped"):
        assert (folder / f"{name}.parquet").read_bytes() == (reference / f"{name}.parquet").read_bytes()


@pytest.mark.parametrize(("before", "after"), [(256, 512), (512, 256), (256, 8192)])
def test_shards_of_another_size_are_neither_used_nor_left(
    stage: MeasureLosses,
    reference: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    before: int,
    after: int,
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Stop):
        fail_at_shard(patch, 1, Stop())
        measure(stage, tmp_path, before)
    # Whoever used this one would be seen.
    (stale,) = (Store(tmp_path).part(stage) / "shards").glob("losses-*")
    rows = pq.read_table(stale)
    pq.write_table(rows.set_column(4, "loss_sum_base", pa.nulls(len(rows), pa.float64())), stale)
    capsys.readouterr()
    folder = measure(stage, tmp_path, after)
    assert "saved in shards of another size" in capsys.readouterr().err
    assert_same_losses(read(folder), read(reference))
    assert read(folder, "skipped").equals(read(reference, "skipped"))
    assert sorted(p.name for p in folder.iterdir()) == ["losses.parquet", "record.json", "skipped.parquet"]


def test_a_mistake_found_while_reading_ahead_is_told_like_any_other(
    stage: MeasureLosses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, calls = tokens.encode_documents, iter(range(2))

    def odd(tokenizer: object, texts: list[str]) -> list[np.ndarray]:
        if next(calls, None) is None:
            raise UserError("document 600 is odd; remove it.")
        return encode(tokenizer, texts)

    monkeypatch.setattr(tokens, "encode_documents", odd)
    with pytest.raises(UserError, match="document 600 is odd; remove it"):
        measure(stage, tmp_path)
    saved = sorted(p.name for p in (Store(tmp_path).part(stage) / "shards").glob("losses-*"))
    assert len(saved) == 2, "what came before it was scored"


def test_what_cannot_be_is_refused_before_any_document_is_read(
    stage: MeasureLosses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(tokens, "tokenized_documents", never)
    (tmp_path / "heads.json").write_text("[[9, 0]]")
    no_head = MeasureLosses(
        stage.model, Files.of(tmp_path / "heads.json"), stage.masking, stage.corpus, stage.scoring
    )
    no_window = MeasureLosses(
        stage.model, stage.heads, stage.masking, stage.corpus, Scoring(window_tokens=4096)
    )
    for number, (odd, told) in enumerate([(no_head, "does not exist"), (no_window, "exceeds the model")]):
        with pytest.raises(UserError, match=told):
            measure(odd, tmp_path / str(number))
