"""What to take out of Python modules: their documentation, or the code itself."""

import ast
import inspect
import re
import warnings
from collections.abc import Iterator

from airlab.text.markup import rst_to_text

_SHORTEST_DOCSTRING = 120


def parse(source: str) -> ast.Module | None:
    """The module's syntax tree; None for what is not Python 3.11, whichever Python runs this."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's docstrings
            return ast.parse(source, feature_version=(3, 11))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def docstrings(source: str, module: str, *, shortest: int = _SHORTEST_DOCSTRING) -> Iterator[tuple[str, str]]:
    """(qualified name, text) of each documented public object, the module first, in the order of the file.

    The text starts with the object's name and parameters, as a reference manual would print it.
    """
    tree = parse(source)
    if tree is None:
        return
    yield from _documented(tree, module, module, shortest)


def _documented(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
    name: str,
    title: str,
    shortest: int,
) -> Iterator[tuple[str, str]]:
    text = ast.get_docstring(node, clean=False)
    if text and len(cleaned := _clean(text)) >= shortest:
        yield name, f"{title}\n\n{cleaned}"
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for child in node.body:
        if getattr(child, "name", "").startswith("_"):
            continue
        if isinstance(child, ast.ClassDef):
            yield from _documented(child, f"{name}.{child.name}", f"class {child.name}", shortest)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            owner = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
            title = f"{owner}{child.name}({_parameters(child.args)})"
            yield from _documented(child, f"{name}.{child.name}", title, shortest)


def _parameters(arguments: ast.arguments) -> str:
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        argument.annotation = None
    if arguments.posonlyargs + arguments.args and (arguments.posonlyargs + arguments.args)[0].arg in (
        "self",
        "cls",
    ):
        del (arguments.posonlyargs or arguments.args)[0]
    for extra in (arguments.vararg, arguments.kwarg):
        if extra is not None:
            extra.annotation = None
    return re.sub(r"\s+", " ", ast.unparse(arguments))


_UNDERLINE = re.compile(r"^[ \t]*([=\-~^\"'*#+])\1{2,}[ \t]*\n?", re.M)


_TEST_SECTION = re.compile(r"^TESTS?:.*?(?=^[A-Z]{4,}[A-Z ]*:|\Z)", re.M | re.S)


def _clean(text: str) -> str:
    plain = rst_to_text(_UNDERLINE.sub("", inspect.cleandoc(text)))
    return _TEST_SECTION.sub("", plain).rstrip()  # regression tests of the package, not documentation


def readable_code(source: str) -> bool:
    """False for what is not written to be read: data tables, generated or minified modules."""
    lines = [line for line in source.splitlines() if line.strip()]
    if len(lines) < 8 or max(map(len, lines)) > 400 or sum(map(len, lines)) / len(lines) > 80:
        return False
    letters = sum(character.isalpha() for character in source)
    digits = sum(character.isdigit() for character in source)
    head = source[:600].lower()
    return digits < 0.25 * letters and not re.search(
        r"(auto-?generated|automatically generated|do not edit)", head
    )


def without_licence_header(source: str) -> str:
    """The module without the comment block at its top if that is a licence, which every module repeats."""
    header = re.match(r"(?:[ \t]*(?:#[^\n]*)?\n)+", source)
    if header and re.search(r"copyright|licen[cs]e|spdx", header[0], re.I):
        return source[header.end() :]
    return source
