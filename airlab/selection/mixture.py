"""Training streams: the full pool with a selected subset upsampled, at one token budget for every arm."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airlab.errors import UserError
from airlab.progress import progress
from airlab.randomness import derive_seed
from airlab.schema.mixture import MixtureSpec

TOKENS = "tokens.bin"
INDEX = "index.parquet"
TOKENIZED = "tokenized.json"
STARTS = "starts.npy"
MIXTURE = "mixture.json"
_FILES_OPEN = 512
INDEX_SCHEMA = pa.schema(
    {"unit_id": pa.string(), "domain": pa.string(), "offset": pa.int64(), "n_tokens": pa.int64()}
)


@dataclass(frozen=True)
class TokenizedCorpus:
    """Every document of a pool as ids, in the order of the unit ids whatever the order of the file.

    `offsets` and `lengths` are int64 [documents]; a document's ids are
    `tokens[offset : offset + length]`. Documents without any token are left out. Names stay in Arrow's
    memory: as Python's strings those of 200 million documents would take 30 GB.
    """

    unit_ids: pa.LargeStringArray
    domains: pa.DictionaryArray
    offsets: np.ndarray
    lengths: np.ndarray
    tokens: "TokenFiles"
    separator: int
    """The end-of-text token that opens every document in a mixture."""
    n_empty: int

    @classmethod
    def open(cls, folder: Path) -> "TokenizedCorpus":
        """Read what `TokenizeCorpus` or `TokenizeShards` wrote.

        Raises UserError when no document has a token.
        """
        facts = json.loads((folder / TOKENIZED).read_text())
        index = pq.read_table(folder / INDEX)
        filled = index.filter(pc.greater(index["n_tokens"], 0))
        if filled.num_rows == 0:
            raise UserError("The corpus has no document with a token; give one with text.")
        # Arrow's plain strings end at 2 GiB an array.
        wide = filled["unit_id"].cast(pa.large_string())
        filled = filled.set_column(0, "unit_id", wide)
        filled = filled.set_column(1, "domain", filled["domain"].dictionary_encode()).sort_by("unit_id")
        return cls(
            unit_ids=filled["unit_id"].combine_chunks(),
            domains=filled["domain"].combine_chunks(),
            offsets=filled["offset"].to_numpy(),
            lengths=filled["n_tokens"].to_numpy(),
            tokens=TokenFiles([folder / name for name in facts.get("files", [TOKENS])], facts["dtype"]),
            separator=facts["separator"],
            n_empty=index.num_rows - filled.num_rows,
        )


class TokenFiles:
    """The ids of all documents in one file or in several, as if they were one array; they stay on disk.

    A document lies in one file. Only so many are open at once that no system refuses.
    """

    def __init__(self, paths: Sequence[Path], dtype: str) -> None:
        self.dtype = np.dtype(dtype)
        self._paths = paths
        lengths = np.array([path.stat().st_size // self.dtype.itemsize for path in paths], dtype=np.int64)
        self._ends = np.cumsum(lengths)
        self._starts = self._ends - lengths
        self._mapped = lru_cache(maxsize=_FILES_OPEN)(self._map)

    def _map(self, number: int) -> np.ndarray:
        return np.memmap(self._paths[number], dtype=self.dtype, mode="r")

    def __getitem__(self, where: slice) -> np.ndarray:
        """The ids of one document, from its first to behind its last."""
        number = int(np.searchsorted(self._ends, where.start, side="right"))
        start = int(self._starts[number])
        return self._mapped(number)[where.start - start : where.stop - start]


@dataclass(frozen=True)
class Mixture:
    """A finished mixture folder, opened."""

    folder: Path
    n_tokens: int
    dtype: str
    context: int
    sha256: str
    """Of the stream and its document borders: what a resumed training run must find again."""

    @classmethod
    def open(cls, folder: Path) -> "Mixture":
        """Read a mixture's facts; the stream itself stays on disk."""
        facts = json.loads((folder / MIXTURE).read_text())
        return cls(
            folder=folder,
            n_tokens=facts["n_tokens"],
            dtype=facts["dtype"],
            context=facts["context"],
            sha256=facts["sha256"],
        )

    def tokens(self) -> np.ndarray:
        """The stream, [n_tokens], mapped."""
        return np.memmap(self.folder / TOKENS, dtype=np.dtype(self.dtype), mode="r")

    def starts(self) -> np.ndarray:
        """Where documents begin, int64, ascending from 0."""
        starts: np.ndarray = np.load(self.folder / STARTS, allow_pickle=False)
        return starts


def pass_order(
    corpus: TokenizedCorpus, selected: np.ndarray | None, spec: MixtureSpec, seed: int, number: int
) -> np.ndarray:
    """Documents of pass `number` in training order, int64 indices into the corpus.

    `selected` is bool [documents], None for the baseline of the full pool. The place of a document
    follows from a hash of (seed, pass, copy, unit id) alone, so a pass of two arms orders what they
    share alike, and arms share the noise of the order.
    """
    everything = np.arange(len(corpus.unit_ids))
    chosen = np.flatnonzero(selected) if selected is not None else None
    copies: list[np.ndarray]
    if chosen is None:
        copies = [everything]
    elif spec.kind == "subset_only":
        copies = [chosen]
    else:
        copies = [everything, chosen]
    keys = [
        np.fromiter(
            (
                derive_seed(seed, "mixture order", number, copy, unit)
                for unit in _names(corpus.unit_ids, documents)
            ),
            dtype=np.int64,
            count=len(documents),
        )
        for copy, documents in enumerate(copies)
    ]
    placed = np.concatenate(copies)
    of_copy = np.repeat(np.arange(len(copies)), [len(documents) for documents in copies])
    order: np.ndarray = placed[np.lexsort((of_copy, placed, np.concatenate(keys)))]
    return order


def _names(units: pa.LargeStringArray, documents: np.ndarray) -> Iterator[str]:
    """One document's name after another, a million of them at a time as Python's strings."""
    for start in range(0, len(documents), 1_000_000):
        yield from units.take(pa.array(documents[start : start + 1_000_000])).to_pylist()


def selected_documents(
    corpus: TokenizedCorpus, selection: pa.Array | pa.ChunkedArray | None
) -> np.ndarray | None:
    """The selection, unit ids, as bool [documents]; None stays None.

    Raises UserError when it is empty or names a document that the corpus does not have.
    """
    if selection is None:
        return None
    if len(selection) == 0:
        raise UserError("The selection is empty: select a larger share, or train on the full pool.")
    wanted = pc.unique(selection.cast(pa.large_string()))
    unknown = wanted.filter(pc.invert(pc.is_in(wanted, value_set=corpus.unit_ids)))
    if len(unknown):
        raise UserError(
            f"The selection names {len(unknown)} documents that the corpus lacks, "
            f"{pc.min(unknown).as_py()!r} first: select from the scores of this corpus."
        )
    selected: np.ndarray = pc.is_in(corpus.unit_ids, value_set=wanted).to_numpy(zero_copy_only=False)
    return selected


def write_mixture(
    corpus: TokenizedCorpus,
    selection: pa.Array | pa.ChunkedArray | None,
    spec: MixtureSpec,
    budget_tokens: int,
    context: int,
    seed: int,
    folder: Path,
) -> dict[str, object]:
    """Write a stream of exactly `budget_tokens // context * context` tokens, and return its facts.

    Passes follow one another until the budget is spent; the last document is cut there. Each
    document is opened by the end-of-text token, which so also closes the one before. Writes
    `tokens.bin`, `starts.npy` and `mixture.json` into `folder`.
    """
    n_tokens = budget_tokens // context * context
    if n_tokens == 0:
        raise UserError(f"A budget of {budget_tokens} tokens fills no sequence of {context}: raise it.")
    selected = selected_documents(corpus, selection)
    starts: list[int] = []
    drawn = np.zeros(len(corpus.unit_ids), dtype=np.int64)
    digest = hashlib.sha256()
    written = n_passes = 0
    with (folder / TOKENS).open("wb") as stream, progress("mixing", "tokens", n_tokens) as advance:
        for number, order in enumerate(_passes(corpus, selected, spec, seed)):
            n_passes = number + 1
            for document in order.tolist():
                piece = _opened(corpus, document)[: n_tokens - written]
                starts.append(written)
                stream.write(piece.tobytes())
                digest.update(piece.tobytes())
                drawn[document] += len(piece)
                written += len(piece)
                advance(len(piece))
                if written == n_tokens:
                    break
            if written == n_tokens:
                break
    borders = np.array(starts, dtype="<i8")
    digest.update(borders.tobytes())
    np.save(folder / STARTS, borders, allow_pickle=False)
    facts: dict[str, object] = {
        "n_tokens": n_tokens,
        "dtype": corpus.tokens.dtype.str,
        "context": context,
        "separator": corpus.separator,
        "documents": len(starts),
        "documents_without_tokens": corpus.n_empty,
        "passes_begun": n_passes,
        **_shares(corpus, selected, drawn),
        "sha256": digest.hexdigest(),
    }
    (folder / MIXTURE).write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    return facts


def _passes(
    corpus: TokenizedCorpus, selected: np.ndarray | None, spec: MixtureSpec, seed: int
) -> Iterator[np.ndarray]:
    number = 0
    while True:
        yield pass_order(corpus, selected, spec, seed, number)
        number += 1


def _opened(corpus: TokenizedCorpus, document: int) -> np.ndarray:
    offset, length = int(corpus.offsets[document]), int(corpus.lengths[document])
    opened = np.empty(length + 1, dtype=corpus.tokens.dtype)
    opened[0] = corpus.separator
    opened[1:] = corpus.tokens[offset : offset + length]
    return opened


def _shares(corpus: TokenizedCorpus, selected: np.ndarray | None, drawn: np.ndarray) -> dict[str, object]:
    """How often the parts of the pool were seen; one pass over a document is its tokens and the separator."""
    available = corpus.lengths + 1

    def passes(of: np.ndarray) -> float:
        return float(drawn[of].sum() / available[of].sum()) if of.any() else 0.0

    codes = corpus.domains.indices.to_numpy()
    domains = {name: codes == code for code, name in enumerate(corpus.domains.dictionary.to_pylist())}
    chosen = np.zeros(len(drawn), dtype=bool) if selected is None else selected
    return {
        "passes_selected": None if selected is None else passes(chosen),
        "passes_unselected": passes(~chosen),
        "tokens_per_domain": {name: int(drawn[domains[name]].sum()) for name in sorted(domains)},
        "passes_per_domain": {name: passes(domains[name]) for name in sorted(domains)},
    }
