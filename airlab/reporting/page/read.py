"""A results folder as it was written: the lock, the grids and sentences of its pages, the estimates."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from airlab.errors import UserError
from airlab.reporting.figures.results import ESTIMATES, GATHERED, SELECTIONS
from airlab.reporting.lock import LOCK, Lock, read_lock
from airlab.reporting.token_maps import EXAMPLES

_FILES = (ESTIMATES, SELECTIONS, GATHERED, EXAMPLES, LOCK)
"""Besides a page's own: nothing else that may lie there, the page itself above all, changes the page."""


@dataclass(frozen=True)
class Grid:
    """One table of texts; the first column names the row."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, header: str) -> int:
        """Where a header stands.

        Raises:
            UserError: nowhere.
        """
        if header not in self.headers:
            raise UserError(f"the table {self.title!r} has no column {header!r}; write the table again.")
        return self.headers.index(header)


@dataclass(frozen=True)
class Written:
    """A page beside the lock: what its Markdown says, and the file that holds the same numbers unrounded."""

    name: str
    title: str
    grids: tuple[Grid, ...]
    sentences: tuple[str, ...]
    """Of its lists: verdicts."""
    notes: tuple[str, ...]
    """What the numbers are."""
    source: str
    """The file in the folder that its numbers lead to."""

    def grid(self, beginning: str) -> Grid | None:
        """The first grid whose title begins so."""
        return next((grid for grid in self.grids if grid.title.startswith(beginning)), None)


@dataclass(frozen=True)
class Published:
    """Everything that was published of one experiment at one scale."""

    folder: Path
    experiment: str
    scale: str
    lock: Lock
    pages: tuple[Written, ...]
    estimates: dict[str, Any] | None
    """The table's numbers, unrounded; None where there is no table, or its file is missing."""
    files: tuple[str, ...]
    """What is there of what we write."""

    def page(self, name: str) -> Written | None:
        """A page by the name of its files."""
        return next((page for page in self.pages if page.name == name), None)


def read_published(folder: Path, experiment: str, scale: str) -> Published:
    """Read a results folder.

    Raises:
        UserError: a page that the lock names is missing, or the estimates cannot be read.
    """
    lock = read_lock(folder)
    known = [f"{name}{suffix}" for name in lock.pages for suffix in (".md", ".csv", ".tex")]
    files = tuple(name for name in [*known, *_FILES] if (folder / name).is_file())
    return Published(
        folder,
        experiment,
        scale,
        lock,
        tuple(_page(folder, name, files) for name in lock.pages),
        _estimates(folder / ESTIMATES),
        files,
    )


def _estimates(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {key: found[key] for key in ("cells", "verdicts", "reference", "seeds")}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} does not hold a table's estimates ({error}); restore it or write the table again."
        ) from None


def _page(folder: Path, name: str, files: Sequence[str]) -> Written:
    path = folder / f"{name}.md"
    if not path.is_file():
        raise UserError(f"{path} does not exist; restore it or write the table again.")
    source = f"{name}.csv" if f"{name}.csv" in files else path.name
    return parse(path.read_text(encoding="utf-8"), name, source)


def parse(text: str, name: str, source: str) -> Written:
    """A page from its Markdown, in the form that `render` and `pages` write."""
    tokens = MarkdownIt("commonmark", {"html": False}).enable("table").parse(text)
    title, heading = name, ""
    grids: list[Grid] = []
    sentences: list[str] = []
    notes: list[str] = []
    in_list = 0
    for number, token in enumerate(tokens):
        before = tokens[number - 1] if number else token
        if token.type == "table_open":
            rows = _rows(tokens[number:])
            grids.append(Grid(heading or title, next(rows), tuple(rows)))
        elif token.type in ("bullet_list_open", "bullet_list_close"):
            in_list += token.nesting
        elif token.type == "inline" and before.type == "heading_open":
            title, heading = (_text(token), "") if before.tag == "h1" else (title, _text(token))
        elif token.type == "inline" and before.type == "paragraph_open":
            (sentences if in_list else notes).extend(_text(token).splitlines())
    return Written(name, title, tuple(grids), tuple(sentences), tuple(notes), source)


def _rows(tokens: Iterable[Token]) -> Iterator[tuple[str, ...]]:
    """The rows of the table that begins here, its head first."""
    row: list[str] = []
    for token in tokens:
        if token.type == "table_close":
            return
        if token.type == "inline":
            row.append(_text(token))
        elif token.type == "tr_close":
            yield tuple(row)
            row = []


def _text(token: Token) -> str:
    """What a reader sees, without emphasis; a hard break ends a line."""
    return "".join(
        {"hardbreak": "\n", "softbreak": " "}.get(child.type, child.content) for child in token.children or []
    ).strip()
