"""Documents of a useful length: join short pieces, cut long ones where a reader would."""

import ast
import itertools
import re
from collections.abc import Iterable, Iterator

from airlab.text.python_source import parse


def pack(blocks: Iterable[str], *, target: int, maximum: int) -> Iterator[str]:
    """Joins consecutive blocks by blank lines until a document has `target` characters.

    A block above `maximum` characters is cut at paragraphs first. No document is longer than
    `maximum`, and the non-blank text of all documents is that of all blocks, in order.
    """
    held: list[str] = []
    size = 0
    for block in blocks:
        for part in cut_paragraphs(block, maximum):
            if held and size + 2 + len(part) > maximum:
                yield "\n\n".join(held)
                held, size = [], 0
            size += len(part) + (2 if held else 0)
            held.append(part)
            if size >= target:
                yield "\n\n".join(held)
                held, size = [], 0
    if held:
        yield "\n\n".join(held)


def cut_paragraphs(text: str, maximum: int) -> list[str]:
    """Pieces of at most `maximum` characters, cut at blank lines, else lines, sentences, words."""
    text = text.strip("\n")
    if not text.strip():
        return []
    if len(text) <= maximum:
        return [text]
    window = text[: maximum + 1]
    for border in (r"\n[ \t]*\n", r"\n", r"(?<=[.!?;]) ", r" "):
        # A cut in the first half would leave a needlessly short piece; try the next kind of border.
        cuts = [match for match in re.finditer(border, window) if match.start() >= maximum // 2]
        if cuts:
            cut = cuts[-1].start()
            break
    else:
        cut = maximum
    head = text[:cut].rstrip()
    return [*([head] if head else []), *cut_paragraphs(text[cut:].lstrip("\n"), maximum)]


def cut_at_definitions(source: str, maximum: int) -> list[str]:
    """Python source in pieces of at most `maximum` characters that join to the source again.

    Cuts fall before top-level definitions, with the comments above them; inside a longer definition
    before its methods; else between lines. Source that does not parse is cut between lines.
    """
    lines = source.splitlines(keepends=True)
    tree = parse(source)
    borders = _borders(tree, len(lines)) if tree is not None else []
    if sum(1 for _ in re.finditer(r"\n", source)) != len(lines) - (0 if source.endswith("\n") else 1):
        borders = []  # form feeds and the like: Python's line numbers are not ours
    return _cut(lines, 0, len(lines), borders, maximum, level=0)


def _borders(tree: ast.Module, total: int) -> list[list[int]]:
    """Line indices before which to cut: of top-level statements, then of statements inside those."""

    def starts(body: list[ast.stmt], first: int) -> list[int]:
        found, previous_end = [], first
        for node in body:
            found.append(previous_end)  # blank lines and comments above a statement go with it
            previous_end = min(node.end_lineno or node.lineno, total)
        return found

    inner = [
        line
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.If)
        for line in starts(node.body, node.body[0].lineno - 1)
    ]
    return [starts(tree.body, 0), inner]


def _cut(
    lines: list[str], first: int, last: int, borders: list[list[int]], maximum: int, level: int
) -> list[str]:
    whole = "".join(lines[first:last])
    if len(whole) <= maximum:
        return [whole] if whole else []
    if level == len(borders):
        return _cut_lines(lines[first:last], maximum)
    inside = [line for line in borders[level] if first < line < last]
    edges = [first, *sorted(set(inside)), last]
    pieces: list[str] = []
    held = ""
    for start, end in itertools.pairwise(edges):
        part = "".join(lines[start:end])
        if len(held) + len(part) <= maximum:
            held += part
            continue
        if held:
            pieces.append(held)
        held = part
        if len(part) > maximum:
            *done, held = _cut(lines, start, end, borders, maximum, level + 1)
            pieces.extend(done)
    return [*pieces, held] if held else pieces


def _cut_lines(lines: list[str], maximum: int) -> list[str]:
    pieces, held = [], ""
    for line in lines:
        if held and len(held) + len(line) > maximum:
            pieces.append(held)
            held = ""
        held += line
        while len(held) > maximum:
            pieces.append(held[:maximum])
            held = held[maximum:]
    return [*pieces, held] if held else pieces
