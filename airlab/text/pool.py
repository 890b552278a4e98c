"""The embedded pool: a fair, deduplicated sample of real text in several domains, with a held-out part.

Everything is decided by hashes of the seed and the content, never by the order or state of anything
else: the same spec gives the same bytes on any machine.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import regex

from airlab.errors import UserError, first_line
from airlab.schema.text import DOMAINS, PoolSpec, WheelSource
from airlab.text import reasoning
from airlab.text.documents import Document
from airlab.text.near_duplicates import SeenDocuments
from airlab.text.sources import Piece, reader

_SPREAD = 16
"""A member gives one document or this fraction of its source's share before all other members were asked."""
_PATIENCE = 64
"""After so many documents in a row that do not fit, a part counts as full."""
_LEAST_SHARE_HELD = 0.1
"""Share of documents offered to the held-out part until it is full, however large the pool may grow."""

_LONGEST_SEARCH_S = 1.0
"""Of computing that a pattern may take to be found in one name: some take years for thirty letters."""


@dataclass
class Part:
    """One side of the split of one domain, filled up to its cap in UTF-8 bytes."""

    cap: int
    documents: list[Document] = field(default_factory=list)
    size: int = 0
    misses: int = 0

    def full(self, smallest: int) -> bool:
        return self.cap - self.size < smallest or self.misses >= _PATIENCE

    def fits(self, size: int) -> bool:
        """Whether a document of so many bytes has room; a refusal is remembered as a miss."""
        if self.misses >= _PATIENCE or self.size + size > self.cap:
            self.misses += 1
            return False
        return True

    def take(self, document: Document, size: int) -> None:
        self.documents.append(document)
        self.size += size
        self.misses = 0


@dataclass(frozen=True)
class Pool:
    """What `build_pool` returns; both lists are in a seeded shuffle, so any prefix is a fair sample."""

    documents: list[Document]
    heldout: list[Document]
    manifest: dict[str, object]
    """Counts: documents and bytes by domain and source, and what was left out and why."""


def build_pool(
    spec: PoolSpec, wheel: Callable[[str], Path], advance: Callable[[int], None] = lambda _: None
) -> Pool:
    """Reads, samples, deduplicates and splits.

    `wheel` gives the path of a pinned wheel by name; `advance` is told the bytes of each document kept.
    Errors: `UserError` for a wheel that is no archive, an unknown reader, or a source without text.
    """
    seen = SeenDocuments(spec.near_duplicate_threshold)
    documents: list[Document] = []
    heldout: list[Document] = []
    counts: dict[str, Counter[str]] = {}
    for domain in DOMAINS:
        caps = spec.bytes_per_domain.get(domain, 0), spec.heldout_bytes_per_domain.get(domain, 0)
        if not any(caps):
            continue
        sources = [source for source in spec.sources if source.domain == domain]
        unit = sum(caps) / max(sum(source.weight for source in sources), 1e-9)
        streams = [_Stream(spec, source, wheel, unit * source.weight) for source in sources]
        if domain == "reasoning" and spec.reasoning is not None:
            streams.append(_Stream.of_reasoning(spec))
        pool, held = Part(caps[0]), Part(caps[1])
        _fill(spec, domain, streams, pool, held, seen, advance)
        for stream in streams:
            counts[f"{domain}/{stream.name}"] = stream.counts
        documents += pool.documents
        heldout += held.documents
    documents.sort(key=lambda document: _rank(spec.seed, "row", document.unit_id))
    heldout.sort(key=lambda document: _rank(spec.seed, "row", document.unit_id))
    return Pool(documents, heldout, _manifest(documents, heldout, counts))


def _fill(
    spec: PoolSpec,
    domain: str,
    streams: list["_Stream"],
    pool: Part,
    held: Part,
    seen: SeenDocuments,
    advance: Callable[[int], None],
) -> None:
    """Takes the next document from the source that is furthest behind its share until both parts are full."""
    share_held = max(held.cap / (pool.cap + held.cap), _LEAST_SHARE_HELD) if held.cap else 0.0
    sides: dict[tuple[str, int], Part] = {}
    open_streams = list(streams)
    while open_streams and not (pool.full(spec.min_characters) and held.full(spec.min_characters)):
        stream = min(open_streams, key=lambda item: (item.taken / item.weight, item.name))
        piece = next(stream.pieces, None)
        if piece is None or (stream.max_bytes is not None and stream.taken >= stream.max_bytes):
            open_streams.remove(stream)
            continue
        if not spec.min_characters <= len(piece.text) <= spec.max_characters:
            stream.counts["wrong_length"] += 1
            continue
        size = len(piece.text.encode())
        rank = _rank(spec.seed, "held out", stream.name, piece.group or piece.text)
        part = sides.get((stream.name, rank))
        if part is None:
            part = held if rank < share_held * _RANKS and held.fits(size) else pool
        if not part.fits(size):
            stream.counts["no_room"] += 1
            continue
        verdict = seen.add(piece.text)
        if verdict != "new":
            stream.counts[verdict] += 1
            continue
        name = hashlib.sha256(piece.text.encode()).hexdigest()[:20]
        part.take(
            Document(f"{domain}-{name}", domain, piece.text, stream.source, stream.licence, piece.member),
            size,
        )
        sides[stream.name, rank] = part
        stream.taken += size
        stream.counts["kept"] += 1
        advance(size)


_RANKS = 2**64


def _rank(seed: int, *words: str) -> int:
    """A uniform 64-bit number that depends on nothing but its arguments."""
    text = "\x1f".join([str(seed), *words])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


class _Stream:
    """The documents of one source in sampling order, read as late as possible."""

    def __init__(
        self, spec: PoolSpec, source: WheelSource, wheel: Callable[[str], Path], wanted_bytes: float
    ) -> None:
        pin = next(pin for pin in spec.wheels if pin.name == source.wheel)
        self.name = f"{source.wheel}/{source.reader}"
        self.source = f"{pin.name}=={pin.version}"
        self.licence = source.licence
        self.weight = source.weight
        self.max_bytes = source.max_bytes
        self.taken = 0
        self.counts: Counter[str] = Counter()
        self.pieces = _sampled(spec, source, self.name, wheel, wanted_bytes)

    @classmethod
    def of_reasoning(cls, spec: PoolSpec) -> "_Stream":
        assert spec.reasoning is not None
        stream = cls.__new__(cls)
        stream.name = "generated"
        stream.source = reasoning.source()
        stream.licence = reasoning.LICENCE
        stream.weight, stream.max_bytes, stream.taken = 1.0, None, 0
        stream.counts = Counter()
        stream.pieces = (
            Piece(text, member) for member, text in reasoning.documents(spec.reasoning, spec.seed)
        )
        return stream


def _sampled(
    spec: PoolSpec, source: WheelSource, name: str, wheel: Callable[[str], Path], wanted_bytes: float
) -> Iterator[Piece]:
    """Pieces in hash order of their members, a bounded amount from each member first, the rest after."""
    kind = reader(source.reader)
    path = wheel(source.wheel)
    most = wanted_bytes / _SPREAD
    rest: list[Piece] = []
    try:
        with ZipFile(path) as archive:
            keys = [key for key in kind.keys(archive) if _reads(spec, source, key)]
            if not keys:
                raise UserError(
                    f"{path.name} holds no text for the reader '{source.reader}': correct the source."
                )
            for key in sorted(keys, key=lambda key: _rank(spec.seed, "member", name, key)):
                taken = 0
                try:
                    pieces = list(kind.read(archive, key, spec.max_characters))
                except (AttributeError, KeyError, TypeError) as error:  # JSON of another shape
                    raise UserError(
                        f"{key} in {path.name} is not what the reader '{source.reader}' reads "
                        f"({first_line(error)}): leave it out with members=..., or choose another reader."
                    ) from error
                pieces.sort(key=lambda piece: _rank(spec.seed, "piece", name, piece.member, piece.text))
                for piece in pieces:
                    if len(keys) > 1 and taken and taken + len(piece.text) > most:
                        rest.append(piece)
                        continue
                    taken += len(piece.text)
                    yield piece
    except BadZipFile as error:
        raise UserError(
            f"{path} is not a readable wheel: delete it and run again to fetch it anew."
        ) from error
    yield from sorted(rest, key=lambda piece: _rank(spec.seed, "rest", name, piece.member, piece.text))


def _reads(spec: PoolSpec, source: WheelSource, member: str) -> bool:
    """Whether this source reads the member: not if it does not match, or if a rival for its text got it.

    A module is read for its docstrings or as code, never both: a docstring would otherwise be in the
    pool twice, or in the pool and held out. Docstrings are scarcer and get two modules in three.
    """
    rivals = {other.reader for other in spec.sources if other.wheel == source.wheel and _names(other, member)}
    if not _names(source, member):
        return False
    if source.reader in _SAME_TEXT and rivals >= _SAME_TEXT:
        winner = "docstrings" if _rank(spec.seed, "reader of", source.wheel, member) % 3 else "code"
        return source.reader == winner
    return True


_SAME_TEXT = {"docstrings", "code"}


def _names(source: WheelSource, member: str) -> bool:
    """Whether the source's pattern is found in the member's name."""
    try:
        return regex.search(source.members or "", member, timeout=_LONGEST_SEARCH_S) is not None
    except TimeoutError as error:
        raise UserError(
            f"members='{source.members}' takes more than {_LONGEST_SEARCH_S:g} s to be found in a name "
            f"of {source.wheel} ({member[:60]}): write a pattern without repetitions inside of repetitions."
        ) from error


def _manifest(
    documents: list[Document], heldout: list[Document], counts: Mapping[str, Counter[str]]
) -> dict[str, object]:
    def table(rows: list[Document]) -> dict[str, dict[str, int]]:
        sizes: dict[str, dict[str, int]] = {}
        for row in rows:
            for key in (row.domain, f"{row.domain}/{row.source}"):
                entry = sizes.setdefault(key, {"documents": 0, "bytes": 0})
                entry["documents"] += 1
                entry["bytes"] += len(row.text.encode())
        return dict(sorted(sizes.items()))

    return {
        "documents": len(documents),
        "heldout": len(heldout),
        "pool": table(documents),
        "held_out": table(heldout),
        "read": {name: dict(sorted(counter.items())) for name, counter in sorted(counts.items())},
    }
