"""Rows of the user's data into the tables that later stages read; nothing is dropped unsaid."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from airlab.errors import UserError
from airlab.text.documents import Document, Skipped, TableWriter
from airlab.text.quarantine import Digests, Quarantine, Refuse, Sieve, Unnoticed, digest
from airlab.text.readers import Row

Rows = Callable[[Sieve], Iterator[Row]]
"""All rows from the first on, and what becomes of those that are broken."""


def import_rows(
    rows: Rows,
    documents: TableWriter,
    skipped: TableWriter,
    source: str,
    watch: Callable[[Iterator[Row]], Iterable[Row]] = lambda rows: rows,
    quarantine: Quarantine | None = None,
) -> dict[str, object]:
    """Writes every row to one of the tables and returns counts: in = documents + skipped (+ quarantined).

    Memory: one shard, and eight bytes a document to find duplicate ids.

    Args:
        rows: opened a second time to tell duplicates; with a quarantine it is read twice in any case.
        quarantine: where broken rows go; None refuses the first of them.

    Errors: `UserError` for whatever the rows raise, and without a quarantine for duplicate ids.
    """
    digests = Digests()
    if quarantine is not None:
        for row in rows(Unnoticed()):
            digests.add(row.unit_id)
        quarantine.suspect(digests.suspects())
    domains: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    types: Counter[str] = Counter()
    for row in watch(rows(quarantine or Refuse())):
        if quarantine is None:
            digests.add(row.unit_id)
        types[row.id_type] += 1
        if row.text.strip():
            documents.add(Document(row.unit_id, row.domain, row.text, source, "", ""))
            domains[row.domain] += 1
        else:
            skipped.add(Skipped(row.unit_id, row.domain, "empty"))
            reasons["empty"] += 1
    if quarantine is None:
        _refuse_duplicates(digests.suspects(), rows)
    counts: dict[str, object] = {
        "in": types.total() + (quarantine.count if quarantine else 0),
        "documents": documents.count,
        "skipped": skipped.count,
        "skipped_by_reason": dict(sorted(reasons.items())),
        "documents_by_domain": dict(sorted(domains.items())),
        "id_types": dict(sorted(types.items())),
    }
    return counts if quarantine is None else {**counts, **quarantine.counts()}


def _refuse_duplicates(suspects: frozenset[int], rows: Rows) -> None:
    if not suspects:
        return
    seen: set[str] = set()
    for row in rows(Refuse()):
        if digest(row.unit_id) in suspects:
            if row.unit_id in seen:
                raise UserError(
                    f"two documents have the id '{row.unit_id}': make the ids unique or set input.id to "
                    f"another column."
                )
            seen.add(row.unit_id)
