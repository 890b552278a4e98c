"""A corpus of small Parquet files as a hub lays them out, with rows of every kind, and a tokenizer for it."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from airlab.schema.text import Columns
from airlab.training.tokenizer import train_tokenizer

COLUMNS = Columns(text="text", id="id", default_domain="prose")
WORDS = ["the", "cat", "sat", "on", "a", "mat", "naïve", "café", "∑", "日本語", "🙂", "1234", "<|endoftext|>"]


def row(number: int) -> dict[str, Any]:
    """Row `number` of the corpus: text, no text at all, blanks, and an id that repeats an earlier one."""
    words = [WORDS[(number * step) % len(WORDS)] for step in range(1, 3 + number % 40)]
    text = None if number % 31 == 7 else "  \n" if number % 37 == 5 else " ".join(words)
    return {"text": text, "id": f"doc-{number - 20 if number % 41 == 40 else number}", "token_length": number}


def write_files(folder: Path, rows: int = 240, files: int = 3, rows_per_group: int = 16) -> Path:
    """`rows` rows in `train-00000-of-00003.parquet` and on."""
    folder.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([("text", pa.string()), ("id", pa.string()), ("token_length", pa.int64())])
    for number in range(files):
        some = [row(n) for n in range(number * rows // files, (number + 1) * rows // files)]
        path = folder / f"train-{number:05d}-of-{files:05d}.parquet"
        pq.write_table(pa.Table.from_pylist(some, schema), path, row_group_size=rows_per_group)
    return folder


def save_tokenizer(folder: Path) -> Path:
    """Trained on the words of the corpus."""
    train_tokenizer([" ".join(WORDS)] * 5, 300).save_pretrained(folder)
    return folder


def spoil_group(path: Path, group: int) -> int:
    """Overwrite the texts of one row group; how many rows it has."""
    with pq.ParquetFile(path) as file:
        found = file.metadata.row_group(group)
        at = found.column(file.metadata.schema.names.index("text"))
        start, size, rows = (
            at.dictionary_page_offset or at.data_page_offset,
            at.total_compressed_size,
            found.num_rows,
        )
    content = bytearray(path.read_bytes())
    content[start : start + size] = b"\xff" * size
    path.write_bytes(content)
    return rows
