"""What may be told apart is told apart; what has no canonical form is refused by name."""

import dataclasses
import enum
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from airlab.schema.base import Frozen
from airlab.schema.machine import Machine
from airlab.store.files import Files
from airlab.store.fingerprint import Refused, canonical, fingerprint
from airlab.store.stage import Stage

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4).map(tuple) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)


class Recipe(Frozen):
    rate: float = 0.5
    steps: int = 3


@dataclass(frozen=True)
class MakePart(Stage):
    VERSION: ClassVar[int] = 1
    value: Any = None


@dataclass(frozen=True)
class Pair:
    left: Any = None
    right: Any = None


def tagged(value: object) -> object:
    """A tree in which equality means sameness of type and bits."""
    if isinstance(value, dict):
        return {"dict": {key: tagged(item) for key, item in value.items()}}
    if isinstance(value, tuple):
        return [tagged(item) for item in value]
    return [type(value).__name__, repr(value)]


@given(trees, trees)
@settings(max_examples=300, deadline=None)
def test_equal_bytes_mean_the_same_value(one: object, other: object) -> None:
    assert (canonical(one) == canonical(other)) == (tagged(one) == tagged(other))


@given(st.dictionaries(st.text(max_size=3), trees, min_size=2, max_size=5), st.randoms())
@settings(deadline=None)
def test_the_order_of_keys_does_not_matter(value: dict[str, object], random: Any) -> None:
    items = list(value.items())
    random.shuffle(items)
    assert canonical(dict(items)) == canonical(value)


def paths_to_leaves(value: object, at: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    if isinstance(value, dict) and value:
        return [path for key, item in value.items() for path in paths_to_leaves(item, (*at, key))]
    if isinstance(value, tuple) and value:
        return [path for i, item in enumerate(value) for path in paths_to_leaves(item, (*at, i))]
    return [at]


def replaced(value: Any, path: tuple[object, ...], new: object) -> object:
    if not path:
        return new
    if isinstance(value, dict):
        return {key: replaced(item, path[1:], new) if key == path[0] else item for key, item in value.items()}
    return tuple(replaced(item, path[1:], new) if i == path[0] else item for i, item in enumerate(value))


@given(trees)
@settings(deadline=None)
def test_every_leaf_matters(value: object) -> None:
    for path in paths_to_leaves(value):
        assert canonical(replaced(value, path, "a leaf of another kind")) != canonical(value)


@given(trees)
@settings(deadline=None)
def test_the_bytes_are_ascii_json_that_reads_back_to_the_same_bytes(value: object) -> None:
    written = canonical(value)
    again = json.dumps(json.loads(written), sort_keys=True, separators=(",", ":")).encode("ascii")
    assert again == written


def test_numbers_of_different_types_differ() -> None:
    assert len({canonical(value) for value in (1, 1.0, True, "1", (1,), 0.0, -0.0, 0, False, None, "")}) == 11


def test_floats_keep_their_last_bit() -> None:
    assert canonical(0.1) != canonical(float(np.nextafter(0.1, 1.0)))
    assert canonical(0.1) == b"0.1"


def test_objects_tuples_and_dicts_cannot_imitate_each_other() -> None:
    recipe = Recipe()
    imitations: list[object] = [
        {"!Recipe": {"rate": 0.5, "steps": 3}},
        {"Recipe": {"rate": 0.5, "steps": 3}},
        {"rate": 0.5, "steps": 3},
        ("Recipe", 0.5, 3),
        {"!!Recipe": {"rate": 0.5, "steps": 3}},
    ]
    assert len({canonical(value) for value in [recipe, *imitations]}) == 6
    stage = MakePart(1)
    assert canonical(stage) != canonical({"!stage": fingerprint(stage)})
    files = Files("0" * 64, Path("x"))
    assert canonical(files) != canonical({"!files": "0" * 64})


def test_defaults_are_resolved() -> None:
    assert canonical(Recipe()) == canonical(Recipe(rate=0.5, steps=3)) != canonical(Recipe(steps=4))
    assert canonical(Pair(1)) == canonical(Pair(1, None)) != canonical(Pair(None, 1))


def test_the_class_name_matters() -> None:
    @dataclass(frozen=True)
    class Couple:
        left: Any = None
        right: Any = None

    assert canonical(Pair(1, 2)) != canonical(Couple(1, 2))


class Colour(enum.StrEnum):
    RED = "red"


class Loose(BaseModel):
    x: int = 1


class Open(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


@dataclass
class Mutable:
    x: int = 1


class Undecorated(Pair):
    extra: int = 1


@pytest.mark.parametrize(
    ("value", "type_name"),
    [
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (Path("a"), "PosixPath"),
        (len, "builtin_function_or_method"),
        (lambda: 1, "function"),
        ({1, 2}, "set"),
        (frozenset({1}), "frozenset"),
        ([1, 2], "list"),
        (b"bytes", "bytes"),
        ("half \ud800", "half a character"),
        ({"\udfff": 1}, "half a character"),
        (1j, "complex"),
        (object(), "object"),
        (np.float64(1.0), "float64"),
        (np.int64(1), "int64"),
        (np.zeros(2), "ndarray"),
        (Colour.RED, "Colour"),
        (Pair, "type"),
        ({1: "x"}, "int"),
        (Loose(), "Loose"),
        (Open.model_validate({"surplus": 1}), "surplus"),
        (Mutable(), "Mutable"),
        (Undecorated(), "Undecorated"),
        (Machine(), "Machine"),
    ],
    ids=lambda item: item if isinstance(item, str) else "",
)
def test_refusals_name_the_type_and_the_field(value: object, type_name: str) -> None:
    with pytest.raises(Refused, match=type_name) as caught:
        fingerprint(MakePart((Pair(right={"deep": value}),)))
    assert "MakePart.value[0].right['deep']" in str(caught.value)


def test_a_field_name_reaches_the_fingerprint() -> None:
    one = dataclasses.make_dataclass("Thing", [("a", int)], frozen=True)
    other = dataclasses.make_dataclass("Thing", [("b", int)], frozen=True)
    assert canonical(one(1)) != canonical(other(1))


def test_a_stage_without_a_version_or_decorator_is_refused() -> None:
    @dataclass(frozen=True)
    class Unversioned(Stage):
        x: int = 1

    class Undecorated(MakePart):
        more: int = 1

    @dataclass(frozen=True)
    class TrueVersion(Stage):
        VERSION: ClassVar[int] = True

    for stage in (Unversioned(), TrueVersion()):
        with pytest.raises(Refused, match="VERSION"):
            fingerprint(stage)
    with pytest.raises(Refused, match="Undecorated must itself be decorated"):
        fingerprint(Undecorated())


def test_the_version_the_name_and_the_inputs_move_the_address() -> None:
    @dataclass(frozen=True)
    class OtherPart(Stage):
        VERSION: ClassVar[int] = 1
        value: Any = None

    first = fingerprint(MakePart(1))
    assert fingerprint(MakePart(1)) == first
    assert fingerprint(OtherPart(1)) != first
    assert fingerprint(MakePart(MakePart(1))) != fingerprint(MakePart(MakePart(2)))
    second_version = type("MakePart", (MakePart,), {"VERSION": 2})
    assert fingerprint(dataclass(frozen=True)(second_version)(1)) != first
