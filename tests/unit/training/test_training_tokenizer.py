"""Documents become the same ids every time, and nothing in a text can pose as a document's end."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from airlab.errors import UserError
from airlab.selection.mixture import TokenizedCorpus
from airlab.training.tokenizer import (
    END_OF_TEXT,
    DocumentEncoder,
    save_tokenizer,
    tokenize_corpus,
    train_tokenizer,
)

TEXTS = ["the cat sat on the mat 1234", "the dog sat on the log 99", "naïve café — ∑ 日本語 🙂"] * 5


def a_tokenizer(folder: Path, texts: list[str] = TEXTS, size: int = 300) -> Path:
    train_tokenizer(texts, size).save_pretrained(folder)
    return folder


def test_training_a_tokenizer_twice_gives_the_same_file(tmp_path: Path) -> None:
    first, second = a_tokenizer(tmp_path / "a"), a_tokenizer(tmp_path / "b", TEXTS[::-1])
    assert (first / "tokenizer.json").read_bytes() == (second / "tokenizer.json").read_bytes()


def test_every_text_round_trips_and_end_of_text_in_a_text_stays_text(tmp_path: Path) -> None:
    encoder = DocumentEncoder(a_tokenizer(tmp_path / "t"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "t")
    texts = ["\x00\t\r\n unseen ☃ bytes", f"a{END_OF_TEXT}b", "007"]
    for text, ids in zip(texts, encoder.encode(texts), strict=True):
        assert encoder.separator not in ids
        assert tokenizer.decode(ids.tolist()) == text
    assert tokenizer.eos_token_id == tokenizer.bos_token_id == encoder.separator
    assert encoder.vocabulary_size == 300 and encoder.dtype == "<u2"


def test_digits_are_kept_apart(tmp_path: Path) -> None:
    encoder = DocumentEncoder(a_tokenizer(tmp_path / "t"))
    (ids,) = encoder.encode(["1234"])
    assert len(ids) == 4


def test_tokenized_corpus_gives_back_each_document(tmp_path: Path) -> None:
    folder = a_tokenizer(tmp_path / "t")
    rows = {"unit_id": ["c", "a", "b"], "domain": ["x", "y", "x"], "text": ["the mat", "", "the log 99"]}
    pq.write_table(pa.table(rows), tmp_path / "documents.parquet", row_group_size=2)
    (tmp_path / "out").mkdir()
    facts = tokenize_corpus(tmp_path / "documents.parquet", folder, tmp_path / "out")
    corpus = TokenizedCorpus.open(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = {
        unit: tokenizer.decode(corpus.tokens[offset : offset + length].tolist())
        for unit, offset, length in zip(
            corpus.unit_ids.to_pylist(), corpus.offsets, corpus.lengths, strict=True
        )
    }
    assert found == {"b": "the log 99", "c": "the mat"}
    assert (corpus.n_empty, facts["n_documents"], facts["n_bytes"]) == (1, 3, 17)


def test_saved_tokenizer_knows_the_context(tmp_path: Path) -> None:
    save_tokenizer(a_tokenizer(tmp_path / "t"), tmp_path / "model", 64)
    assert AutoTokenizer.from_pretrained(tmp_path / "model").model_max_length == 64


def test_vocabulary_too_small_for_the_bytes_is_refused() -> None:
    with pytest.raises(UserError, match="too small"):
        train_tokenizer(TEXTS, 256)
