"""Rows of the user's data into the tables that later stages read; nothing is dropped unsaid."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from airlab.errors import UserError
from airlab.text.documents import Document, Skipped, TableWriter
from airlab.text.readers import Row


def import_rows(
    rows: Callable[[], Iterator[Row]],
    documents: TableWriter,
    skipped: TableWriter,
    source: str,
    watch: Callable[[Iterator[Row]], Iterable[Row]] = lambda rows: rows,
) -> dict[str, object]:
    """Writes every row to one of the two tables and returns counts: in = documents + skipped.

    Memory: one shard, and eight bytes a document to find duplicate ids. `rows` is opened a second time
    only to name a duplicate. Errors: `UserError` for duplicate ids and whatever the rows raise.
    """
    digests = array("Q")
    domains: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    types: Counter[str] = Counter()
    for row in watch(rows()):
        digests.append(_digest(row.unit_id))
        types[row.id_type] += 1
        if row.text.strip():
            documents.add(Document(row.unit_id, row.domain, row.text, source, "", ""))
            domains[row.domain] += 1
        else:
            skipped.add(Skipped(row.unit_id, row.domain, "empty"))
            reasons["empty"] += 1
    _refuse_duplicates(digests, rows)
    return {
        "in": len(digests),
        "documents": documents.count,
        "skipped": skipped.count,
        "skipped_by_reason": dict(sorted(reasons.items())),
        "documents_by_domain": dict(sorted(domains.items())),
        "id_types": dict(sorted(types.items())),
    }


def _digest(unit_id: str) -> int:
    digest = hashlib.blake2b(unit_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _refuse_duplicates(digests: "array[int]", rows: Callable[[], Iterator[Row]]) -> None:
    values, counts = np.unique(np.frombuffer(digests, dtype=np.uint64), return_counts=True)
    suspects = {int(value) for value in values[counts > 1]}
    if not suspects:
        return
    seen: set[str] = set()
    for row in rows():
        if _digest(row.unit_id) in suspects:
            if row.unit_id in seen:
                raise UserError(
                    f"two documents have the id '{row.unit_id}': make the ids unique or set input.id to "
                    f"another column."
                )
            seen.add(row.unit_id)
