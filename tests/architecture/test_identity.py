"""Every field of every schema and stage moves the address; the machine and paths cannot.

Values are built from the annotations of whatever modules exist, so a field or class added tomorrow is
tested without anybody remembering to. Validators are passed by: an identity must tell values apart by
what they hold, sensible or not.
"""

import dataclasses
import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

import airlab.schema
import airlab.selection
import airlab.stages
from airlab.schema.base import Frozen
from airlab.schema.machine import Machine
from airlab.store import fingerprint as fingerprint_module
from airlab.store.files import Files
from airlab.store.fingerprint import canonical
from airlab.store.stage import Stage

SCALARS: dict[Any, list[Any]] = {
    bool: [False, True],
    int: [3, 5],
    float: [0.25, 0.75],
    str: ["one", "two"],
    type(None): [None],
    Files: [Files("a" * 64, Path("a")), Files("b" * 64, Path("b"))],
}


@dataclasses.dataclass(frozen=True)
class AnyInput(Stage):
    """Stands for an input whose stage is not fixed."""

    VERSION: ClassVar[int] = 1
    which: int = 0


def defined_in(package: types.ModuleType, base: type) -> list[type]:
    classes = []
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        module = importlib.import_module(info.name)
        for item in vars(module).values():
            if isinstance(item, type) and issubclass(item, base) and item.__module__ == info.name:
                classes.append(item)
    return [cls for cls in classes if cls not in (base, Frozen, Machine) and not inspect.isabstract(cls)]


SCHEMAS = [*defined_in(airlab.schema, BaseModel), *defined_in(airlab.selection, BaseModel)]
STAGES = defined_in(airlab.stages, Stage)


def fields_of(cls: type) -> dict[str, Any]:
    """Name → annotation, with nested metadata still in it."""
    if issubclass(cls, BaseModel):
        return {name: field.annotation for name, field in cls.model_fields.items()}
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def built(cls: type, values: dict[str, Any]) -> Any:
    """An instance holding exactly these values, without any validator having a say."""
    if issubclass(cls, BaseModel):
        return cls.model_construct(**values)
    instance = object.__new__(cls)
    for name, value in values.items():
        object.__setattr__(instance, name, value)
    return instance


def variants(annotation: Any) -> list[Any]:
    """Values of a type that must all have different identities; the first is the base of the others.

    Raises:
        NotImplementedError: for an annotation not known here, so that no field slips through.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in SCALARS:
        return SCALARS[annotation]
    if origin is Annotated:
        return variants(arguments[0])
    if origin is Literal:
        return list(arguments)
    if origin in (Union, types.UnionType):
        return [value for argument in arguments for value in variants(argument)]
    if origin is tuple and len(arguments) == 2 and arguments[1] is ...:
        inner = variants(arguments[0])
        return [(inner[0],), *((value,) for value in inner[1:]), (), (inner[0], inner[0])]
    if origin is tuple:
        changed = changed_one_by_one({str(i): argument for i, argument in enumerate(arguments)})
        return [tuple(values.values()) for values in changed]
    if origin is dict:
        keys, inner = variants(arguments[0]), variants(arguments[1])
        return [{keys[0]: inner[0]}, *({keys[0]: value} for value in inner[1:]), {}, {keys[1]: inner[0]}]
    if annotation is Stage:
        return [AnyInput(1), AnyInput(2)]
    if isinstance(annotation, type) and issubclass(annotation, Stage):
        return instances(annotation)[:2]  # the rest of its fields is tested where it is tested itself
    if isinstance(annotation, type) and (
        issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation)
    ):
        return [value for kind in concrete(annotation) for value in instances(kind)]
    raise NotImplementedError(f"no values are known for {annotation}: add them, every field must be tested")


def concrete(cls: type) -> list[type]:
    """The class and all that derive from it in the project, unless abstract."""
    kinds = [cls, *(kind for child in cls.__subclasses__() for kind in concrete(child))]
    return [kind for kind in kinds if not inspect.isabstract(kind) and kind.__module__.startswith("airlab.")]


def instances(cls: type) -> list[Any]:
    """An instance, and for every field one per other value of it."""
    return [built(cls, values) for values in changed_one_by_one(fields_of(cls))]


def changed_one_by_one(annotations: dict[str, Any]) -> Iterator[dict[str, Any]]:
    options = {name: variants(annotation) for name, annotation in annotations.items()}
    base = {name: values[0] for name, values in options.items()}
    yield base
    for name, values in options.items():
        for value in values[1:]:
            yield {**base, name: value}


def blind_fields(cls: type) -> list[str]:
    """Fields that have values which the identity cannot tell apart."""
    blind = []
    for name, annotation in fields_of(cls).items():
        base = {other: variants(kind)[0] for other, kind in fields_of(cls).items()}
        values = variants(annotation)
        constant = get_origin(annotation) is Literal and len(values) == 1
        seen = {canonical(built(cls, {**base, name: value})) for value in values}
        if len(seen) < len(values) or (len(values) < 2 and not constant):
            blind.append(name)
    return blind


def test_there_is_something_to_look_at() -> None:
    assert len(SCHEMAS) >= 20
    assert len(STAGES) >= 10


@pytest.mark.parametrize("cls", [*SCHEMAS, *STAGES], ids=lambda cls: cls.__name__)
def test_every_field_moves_the_address(cls: type) -> None:
    assert blind_fields(cls) == []


@pytest.mark.parametrize("cls", SCHEMAS, ids=lambda cls: cls.__name__)
def test_every_schema_is_frozen_and_closed(cls: type) -> None:
    assert issubclass(cls, Frozen)
    for option in ("frozen", "strict"):
        assert cls.model_config.get(option) is True
    assert cls.model_config.get("extra") == "forbid"
    assert cls.model_config.get("allow_inf_nan") is False


def reachable(annotation: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Every type below an annotation with the field it was met in; other stages are not entered."""
    yield where, annotation
    if get_origin(annotation) is not Literal:
        for argument in get_args(annotation):
            yield from reachable(argument, where)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for kind in concrete(annotation):
            for name, inner in fields_of(kind).items():
                yield from reachable(inner, f"{where}.{name}")


@pytest.mark.parametrize("cls", STAGES, ids=lambda cls: cls.__name__)
def test_no_stage_holds_a_path_or_a_machine(cls: type) -> None:
    met = [pair for name, kind in fields_of(cls).items() for pair in reachable(kind, name)]
    assert [where for where, kind in met if kind is Machine] == []
    assert [where for where, kind in met if isinstance(kind, type) and issubclass(kind, Path)] == []
    last_words = {where: set(where.split(".")[-1].split("_")) for where, _ in met}
    assert [where for where, words in last_words.items() if words & {"path", "folder", "directory"}] == []


def test_machine_settings_have_names_of_their_own() -> None:
    science = {name for cls in [*SCHEMAS, *STAGES] for name in fields_of(cls)}
    assert science & set(Machine.model_fields) == set()


def test_stage_names_are_unique_and_versioned() -> None:
    names = [built(cls, {}).name for cls in STAGES]
    assert sorted(set(names)) == sorted(names)
    assert all(type(vars(cls).get("VERSION")) is int for cls in STAGES), "each class states its own VERSION"


class Toy(Frozen):
    a: int = 1
    b: tuple[str, ...] = ()
    c: dict[str, float] | None = None


def test_a_forgotten_field_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert blind_fields(Toy) == []
    whole = fingerprint_module._fields
    monkeypatch.setattr(
        fingerprint_module, "_fields", lambda *args: [pair for pair in whole(*args) if pair[0] != "b"]
    )
    assert blind_fields(Toy) == ["b"]


def test_an_unknown_annotation_is_not_passed_over() -> None:
    with pytest.raises(NotImplementedError):
        variants(list[int])
