"""The target's tokenizer: a byte-level BPE trained on the pool, and documents as token ids."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from airlab.errors import UserError
from airlab.models.load import load_tokenizer
from airlab.progress import progress
from airlab.selection.mixture import INDEX, INDEX_SCHEMA, TOKENIZED, TOKENS
from airlab.training.text_encoder import TextEncoder

END_OF_TEXT = "<|endoftext|>"
N_BYTES = 256


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most `vocabulary_size` tokens, single digits kept apart.

    Every text round-trips, since all 256 bytes are in the vocabulary. Id 0 is `<|endoftext|>`,
    which is both the beginning and the end of a document. Raises UserError when the vocabulary
    cannot hold the bytes.
    """
    if vocabulary_size <= N_BYTES + 1:
        raise UserError(f"A vocabulary of {vocabulary_size} is too small: choose more than {N_BYTES + 1}.")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


class DocumentEncoder(TextEncoder):
    """Documents to ids with the tokenizer in `folder`; text that looks like a special token is text."""

    def __init__(self, folder: Path) -> None:
        """Raises UserError when the tokenizer has no end-of-text token."""
        tokenizer = load_tokenizer(folder)
        if tokenizer.eos_token_id is None:
            raise UserError(f"The tokenizer in {folder} has no end-of-text token; choose another one.")
        super().__init__(tokenizer.backend_tokenizer, int(tokenizer.eos_token_id), len(tokenizer))


def save_tokenizer(folder: Path, into: Path, context: int) -> None:
    """Copy the tokenizer in `folder` beside a model of `context` tokens."""
    tokenizer = load_tokenizer(folder)
    tokenizer.model_max_length = context
    tokenizer.save_pretrained(into)


def document_texts(documents: Path) -> Iterator[str]:
    """The texts of a corpus in the order of its file, for training a tokenizer."""
    for table in _row_groups(documents, ["text"]):
        yield from table["text"].to_pylist()


def tokenize_corpus(documents: Path, tokenizer: Path, folder: Path) -> dict[str, object]:
    """Write every document's ids once, for all mixtures to gather from; returns the facts.

    `tokens.bin` in `folder` holds the ids end to end, `index.parquet` (unit_id, domain, offset,
    n_tokens) where each document lies, `tokenized.json` the separator and the type.
    """
    encoder = DocumentEncoder(tokenizer)
    offset = n_bytes = 0
    indexes: list[pa.Table] = [INDEX_SCHEMA.empty_table()]
    n_rows = pq.read_metadata(documents).num_rows
    with (folder / TOKENS).open("wb") as tokens, progress("tokenising", "documents", n_rows) as advance:
        for table in _row_groups(documents, ["unit_id", "domain", "text"]):
            texts = table["text"].to_pylist()
            lengths = []
            for ids in encoder.encode(texts):
                tokens.write(ids.tobytes())
                lengths.append(len(ids))
            ends = offset + np.cumsum(lengths, dtype=np.int64)
            n_bytes += sum(len(text.encode()) for text in texts)
            columns = [
                table["unit_id"],
                table["domain"],
                pa.array(ends - lengths),
                pa.array(lengths, pa.int64()),
            ]
            indexes.append(pa.table(columns, schema=INDEX_SCHEMA))
            offset = int(ends[-1]) if lengths else offset
            advance(len(lengths))
    pq.write_table(pa.concat_tables(indexes), folder / INDEX)
    facts: dict[str, object] = {
        "separator": encoder.separator,
        "vocabulary_size": encoder.vocabulary_size,
        "dtype": encoder.dtype.str,
        "n_documents": n_rows,
        "n_tokens": offset,
        "n_bytes": n_bytes,
    }
    (folder / TOKENIZED).write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    return facts


def _row_groups(documents: Path, columns: list[str]) -> Iterator[pa.Table]:
    with pq.ParquetFile(documents) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=columns)
