"""The published tables below a results folder, each with its lock."""

from pathlib import Path

from airlab.errors import UserError
from airlab.reporting.lock import LOCK, Lock, read_lock


def published(root: Path) -> dict[Path, Lock]:
    """Every table's folder with its lock, sorted.

    Raises:
        UserError: there is no table, or a lock cannot be read.
    """
    found = {path.parent: _read(path) for path in sorted(root.rglob(LOCK))}
    if not found:
        raise UserError(f"there are no tables below {root}; run `make reproduce` first.")
    return found


def _read(path: Path) -> Lock:
    try:
        return read_lock(path.parent)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is not a table's lock ({error}); restore it or write the table again."
        ) from None
