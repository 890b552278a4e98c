"""Where a large table is cut into the parts that are worked on one at a time, by whoever is free.

The cuts depend on the files' footers and a size alone. So the parts that are finished are all that has to be
known to go on: a cursor that no stopped process can have left half moved.
"""

from collections.abc import Iterable
from typing import NamedTuple

from airlab.schema.base import Frozen


class Group(NamedTuple):
    """What the footer says of one row group."""

    rows: int
    text_bytes: int
    """Of the column of texts, unpacked."""


class RowRange(Frozen):
    """Row groups of one file that follow one another."""

    number: int
    """Among all ranges, from 0."""
    file: int
    """Number of the file, from 0."""
    first_group: int
    groups: int
    row: int
    """Number of its first row in the file, from 0."""
    position: int
    """Number of its first row among the rows of all files, from 0."""
    rows: int
    """How many are read; in the last range possibly fewer than its groups have."""


def cut_into_ranges(
    files: Iterable[list[Group]], bytes_per_range: int, max_rows: int | None = None
) -> list[RowRange]:
    """Cut files where their text would exceed a size, never inside a row group or across two files.

    Args:
        max_rows: take only the first so many rows of all; None for all.
    """
    ranges: list[RowRange] = []
    position = 0
    for number, groups in enumerate(files):
        row = first = size = 0
        for group, (_, text_bytes) in enumerate([*groups, Group(0, bytes_per_range + 1)]):
            # The group behind the last closes the last range of the file.
            if group > first and size + text_bytes > bytes_per_range:
                held = sum(one.rows for one in groups[first:group])
                left = held if max_rows is None else min(held, max_rows - position)
                if left > 0:
                    ranges.append(
                        RowRange(
                            number=len(ranges),
                            file=number,
                            first_group=first,
                            groups=group - first,
                            row=row,
                            position=position,
                            rows=left,
                        )
                    )
                row, position, first, size = row + held, position + held, group, 0
            size += text_bytes
    return ranges
