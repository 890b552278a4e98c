"""Documents as files of token ids, as other trainers map them into memory.

A document's text is tokenized as text, whatever special tokens it spells, with a beginning-of-sequence token
exactly if the tokenizer puts one there, and closed by its end-of-text token. Files hold bare little-endian
ids without a header, uint16 where they fit. `documents.parquet` says where each document lies.
"""

import gzip
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airlab.errors import UserError
from airlab.randomness import derive_seed
from airlab.text.tokens import encode_documents, sequence_start

Document = tuple[str, str]
"""Id and text."""

_DOCUMENTS_AT_ONCE = 64


class Encoder:
    """A tokenizer as these files need it. `UserError` where it has no end-of-text token."""

    def __init__(self, tokenizer: Any) -> None:
        if tokenizer.eos_token_id is None:
            raise UserError(
                "the model's tokenizer has no end-of-text token, and without one documents run into each "
                "other: choose another model."
            )
        self.start = sequence_start(tokenizer)
        self.end = int(tokenizer.eos_token_id)
        vocabulary = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=True)
        self.highest = max([self.end, *vocabulary.values()])
        """The highest id there is: a vocabulary may have gaps, and its size say less."""
        self._tokenizer = tokenizer

    def encode(self, documents: Sequence[Document]) -> Iterator[tuple[str, np.ndarray]]:
        """Ids and tokens, the closing one among them.

        Raises:
            UserError: a text that has the closing token inside.
        """
        texts = [text for _, text in documents]
        for (unit_id, _), ids in zip(documents, encode_documents(self._tokenizer, texts), strict=True):
            if (ids[len(self.start) :] == self.end).any():
                raise UserError(
                    f"the text of document '{unit_id}' has the tokenizer's end-of-text token inside, where "
                    "no trainer could tell it from the document's end: remove the document, or take another "
                    "model."
                )
            yield unit_id, np.append(ids, np.int32(self.end))


INDEX_SCHEMA = pa.schema({"id": pa.string(), "file": pa.string(), "start": pa.int64(), "end": pa.int64()})
"""`start` and `end` count tokens of the file; the last of a document is its end-of-text token."""


def write_nanogpt(
    folder: Path, documents: Iterable[Document], ids: Collection[str], encoder: Encoder, share: float
) -> dict[str, Any]:
    """`train.bin`, `val.bin` and `meta.pkl` as nanoGPT's `train.py` reads them; returns the facts.

    Args:
        ids: of all documents, of which `share` are held out for validation, one at least. A draw that
            depends on nothing but them.

    Raises:
        UserError: ids of tokens that uint16 cannot hold, or too few documents for both files.
    """
    if encoder.highest >= 1 << 16:
        raise UserError(
            f"the tokenizer has tokens up to number {encoder.highest}, and nanoGPT reads 16 bits: choose a "
            "model with at most 65,536 tokens, or format=olmo."
        )
    held_out = held_out_ids(ids, share)
    with ExitStack() as stack:
        streams = {
            name: stack.enter_context((folder / f"{name}.bin").open("wb")) for name in ("train", "val")
        }
        index = _Index(stack.enter_context(pq.ParquetWriter(folder / "documents.parquet", INDEX_SCHEMA)))
        for unit_id, tokens in _encoded(documents, encoder):
            name = "val" if unit_id in held_out else "train"
            streams[name].write(tokens.astype("<u2").tobytes())
            index.add(unit_id, f"{name}.bin", len(tokens))
        index.flush()
    # A pickle of a dictionary with one number, spelled out: nanoGPT asks for the vocabulary's size there.
    (folder / "meta.pkl").write_bytes(f"(dVvocab_size\nI{encoder.highest + 1}\ns.".encode())
    files = {f"{name}.bin": index.lengths.get(f"{name}.bin", 0) for name in streams}
    return _facts(folder, encoder, "uint16", files, documents_held_out=len(held_out))


def held_out_ids(ids: Collection[str], share: float) -> set[str]:
    """The ids held out for validation. `UserError` where none is left on one of the two sides."""
    count = max(1, round(len(ids) * share))
    if count >= len(ids):
        raise UserError(
            f"{len(ids)} documents with val_share={share} leave none to train on: select more, or lower it."
        )
    return set(sorted(ids, key=lambda unit_id: (derive_seed(0, "held out", unit_id), unit_id))[:count])


def write_olmo(
    folder: Path, documents: Iterable[Document], encoder: Encoder, tokens_per_file: int
) -> dict[str, Any]:
    """`part-00000.npy` and on, with `part-00000.csv.gz` of document offsets, as OLMo-core reads them.

    A file is closed with the document that fills it.
    """
    dtype = np.dtype("<u2") if encoder.highest < 1 << 16 else np.dtype("<u4")
    name, files = "", dict[str, int]()
    with ExitStack() as stack:
        index = _Index(stack.enter_context(pq.ParquetWriter(folder / "documents.parquet", INDEX_SCHEMA)))
        part = stack.enter_context(ExitStack())
        for unit_id, tokens in _encoded(documents, encoder):
            if not name or index.lengths[name] >= tokens_per_file:
                part.close()
                stem = f"part-{len(index.lengths):05d}"
                name = f"{stem}.npy"
                stream = part.enter_context((folder / name).open("wb"))
                packed = part.enter_context((folder / f"{stem}.csv.gz").open("wb"))
                offsets = part.enter_context(gzip.GzipFile("", "wb", fileobj=packed, mtime=0))
            stream.write(tokens.astype(dtype).tobytes())
            start, end = index.add(unit_id, name, len(tokens))
            offsets.write(f"{start},{end}\n".encode())
        index.flush()
        files = dict(index.lengths)
    return _facts(folder, encoder, dtype.name, files)


class _Index:
    """Where documents lie, written as it grows."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self._rows: list[tuple[str, str, int, int]] = []
        self.lengths: dict[str, int] = {}
        """Tokens by file."""

    def add(self, unit_id: str, file: str, n_tokens: int) -> tuple[int, int]:
        start = self.lengths.get(file, 0)
        self.lengths[file] = start + n_tokens
        self._rows.append((unit_id, file, start, start + n_tokens))
        if len(self._rows) == 1 << 14:
            self.flush()
        return start, start + n_tokens

    def flush(self) -> None:
        if self._rows:
            columns = [
                pa.array(c, f.type) for c, f in zip(zip(*self._rows, strict=True), INDEX_SCHEMA, strict=True)
            ]
            self._writer.write_table(pa.table(columns, schema=INDEX_SCHEMA))
            self._rows.clear()


def _encoded(documents: Iterable[Document], encoder: Encoder) -> Iterator[tuple[str, np.ndarray]]:
    stream = iter(documents)
    while batch := list(islice(stream, _DOCUMENTS_AT_ONCE)):
        yield from encoder.encode(batch)


def _facts(folder: Path, encoder: Encoder, dtype: str, files: dict[str, int], **more: int) -> dict[str, Any]:
    facts = {
        "dtype": dtype,
        "byte_order": "little",
        "vocabulary_size": encoder.highest + 1,
        "eos_token_id": encoder.end,
        "bos_token_id": encoder.start[0] if encoder.start else None,
        "tokens": sum(files.values()),
        "tokens_by_file": files,
        **more,
    }
    (folder / "meta.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return facts
