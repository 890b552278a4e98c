"""Writes docs/CONFIGURATION.md out of the schemas and the files in configs/: `make docs`.

Every setting of every command, with its type, default and docstring. A test holds the page to what this
writes, so that no setting is without a line.
"""

import ast
import importlib
import inspect
import json
import re
import types
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from airlab.cli.main import FOLLOWED, VERBS, configs_folder
from airlab.selection.selectors import known_selectors
from airlab.selection.selectors.base import SelectorBase
from experiments.base import Experiment

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("CONFIGURATION.md")
_PLAIN = {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}
_BOUNDS = {"gt": "> {}", "ge": "≥ {}", "lt": "< {}", "le": "≤ {}"}
_INTRODUCTION = """\
# Configuration

Every setting of every command. This page is written by `make docs` from the schemas, the command line and
the files in `configs/`; a test keeps it current.

A setting is `key=value` on the command line, `group=choice` takes a file of `configs/group/`,
`group.key=value` changes one value of it, `+selector@selectors.name=choice` adds one more selector. Values
are checked strictly: a setting that does not exist, a wrong type and a value that is not possible each end
the command with a sentence and exit code 2, before anything is done. `airlab COMMAND --help` shows a
command's settings as they are composed.

"""


def page() -> str:
    """The whole page."""
    lines = [_INTRODUCTION, "## Commands", ""]
    met: dict[str, type[BaseModel]] = {}
    shown: dict[str, str] = {}
    for name, verb in VERBS.items():
        lines += [f"### `airlab {name}`", "", f"{_sentence(verb.summary)} For example:", ""]
        lines += ["```bash", verb.example, "```", ""]
        models = _commands(verb.target.split(":")[0])
        for model in models:
            if same := shown.get(model.__name__):
                lines += [f"Its settings are those of `airlab {same}`.", ""]
                continue
            shown[model.__name__] = name
            lines += _fields(model, verb.config)
            met |= {inner.__name__: inner for inner in _reached(model)}
    lines += [
        "## Experiments",
        "",
        "What `airlab plan`, `run`, `table` and `archive` take besides, every experiment:",
        "",
    ]
    lines += _fields(Experiment, "run")
    for name, model in experiments():
        lines += [f"### `experiment={name}`", "", *_fields(model, leave_out=tuple(Experiment.model_fields))]
        met |= {inner.__name__: inner for inner in _reached(model) if not issubclass(inner, SelectorBase)}
    lines += ["## Groups", "", "| group | choices |", "|---|---|"]
    lines += [f"| `{name}` | {', '.join(f'`{x}`' for x in choices)} |" for name, choices in groups()]
    lines += ["", "## Selectors", "", "The kinds that files in `configs/selector` set up.", ""]
    for kind, model in known_selectors().items():
        lines += [f"### `kind: {kind}`", "", _summary(model), "", *_fields(model, leave_out=("kind",))]
    lines += ["## Values", "", "What groups and settings are made of.", ""]
    for name in sorted(met):
        lines += [f"### {name}", "", _summary(met[name]), "", *_fields(met[name])]
    return "\n".join(lines).rstrip() + "\n"


def experiments() -> Iterator[tuple[str, type[BaseModel]]]:
    """Name and configuration of every experiment that has a file in `configs/experiment`."""
    folder = configs_folder() / "experiment"
    for path in sorted(folder.rglob("*.yaml")):
        named = re.search(r"^  name: (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert named is not None, path
        choice = path.relative_to(folder).with_suffix("").as_posix()
        yield choice, importlib.import_module("experiments." + named[1].replace("/", ".")).Config


def groups() -> Iterator[tuple[str, list[str]]]:
    """Every group that a user may choose in, and its choices."""
    for folder in sorted(configs_folder().iterdir()):
        if folder.is_dir() and folder.name not in FOLLOWED:
            choices = (p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml"))
            yield folder.name, sorted(choices)


def _commands(module: str) -> list[type[BaseModel]]:
    """What a verb's settings are bound to: the `…Command` classes of its module."""
    found = vars(importlib.import_module(module)).values()
    own = [x for x in found if inspect.isclass(x) and x.__module__ == module and issubclass(x, BaseModel)]
    return [x for x in own if x.__name__.endswith("Command")]


def _reached(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Every schema class that a setting of `model` may hold."""
    for field in model.model_fields.values():
        for inner in _models(field.annotation):
            yield inner
            yield from _reached(inner)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    else:
        for inner in get_args(annotation):
            yield from _models(inner)


def _fields(model: type[BaseModel], config: str | None = None, leave_out: tuple[str, ...] = ()) -> list[str]:
    """A table of a class' fields; the file `config` gives them values and, in comments, meanings."""
    given = _given(config) if config else {}
    rows = [
        (
            f"`{name}`",
            "a choice of `configs/selector`"
            if name == "selector"
            else _type(field.annotation, field.metadata),
            given[name][0] if name in given else _default(field),
            _meaning(model, name) or (given[name][1] if name in given else ""),
        )
        for name, field in model.model_fields.items()
        if name not in leave_out
    ]
    if not rows:
        return ["No settings of its own.", ""]
    lines = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


_LINE = re.compile(r"^(?:  - )?(?:optional )?(?P<key>[\w.]+): *(?P<value>[^#]*?) *(?:# (?P<comment>.*))?$")


@cache
def _given(config: str) -> dict[str, tuple[str, str]]:
    """Key → the value that a command's file gives it, and the comment beside it."""
    found = {}
    for line in (configs_folder() / f"{config}.yaml").read_text(encoding="utf-8").splitlines():
        if (match := _LINE.match(line)) and match["key"] != "defaults":
            value = {"???": "must be given", "": "its own"}.get(match["value"], f"`{match['value']}`")
            found[match["key"]] = (value, _cell(match["comment"] or ""))
    return found


def _type(annotation: Any, metadata: list[Any]) -> str:
    """An annotation as a reader says it; values are code, classes link to their tables."""
    if get_origin(annotation) is Annotated:
        annotation, *inner = get_args(annotation)
        return _type(annotation, [*inner, *metadata])
    bounds = [text for item in metadata for text in _bounds(item)]
    shown = _bare(annotation)
    return f"{shown}, {' and '.join(bounds)}" if bounds else shown


def _bounds(item: Any) -> Iterator[str]:
    if isinstance(item, FieldInfo):
        for inner in item.metadata:
            yield from _bounds(inner)
    for key, text in _BOUNDS.items():
        if (value := getattr(item, key, None)) is not None:
            yield text.format(value)
    if isinstance(item, annotated_types.MinLen):
        yield f"at least {item.min_length}"
    if pattern := getattr(item, "pattern", None):
        yield f"`{pattern}`"


def _bare(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in (None, types.NoneType):
        return "null"
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(inner, []) for inner in arguments))
    if origin is tuple:
        return f"list of {_type(arguments[0], [])}"
    if origin in (dict, Mapping):
        return f"{_type(arguments[0], [])} → {_type(arguments[1], [])}"
    if annotation is SelectorBase:
        return "[selector](#selectors)"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    name = str(annotation.__name__)
    return _PLAIN.get(name, name)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    if any(map(_is_model, value if isinstance(value, tuple) else (value,))):
        return "its own"
    return f"`{json.dumps(value)}`"


def _is_model(value: object) -> bool:
    return isinstance(value, BaseModel)


def _meaning(model: type[BaseModel], name: str) -> str:
    for owner in model.__mro__:
        if issubclass(owner, BaseModel) and (text := _docstrings(owner).get(name)):
            return _cell(text)
    return ""


@cache
def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Field → the string below it in the source, which Python itself does not keep."""
    if model is BaseModel:
        return {}
    (tree,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(model))).body
    assert isinstance(tree, ast.ClassDef)
    fields = zip(tree.body, tree.body[1:], strict=False)
    return {
        statement.target.id: str(after.value.value)
        for statement, after in fields
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }


def _summary(model: type[BaseModel]) -> str:
    return _cell((inspect.getdoc(model) or "").split("\n\n")[0])


def _cell(text: str) -> str:
    """A docstring in a table: its own marks for code stay."""
    return " ".join(text.replace("``", "`").replace("|", "\\|").replace("<", "&lt;").split())


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
