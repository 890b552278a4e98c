"""Addresses that must never move by accident: a change here orphans every artifact ever made.

If one of these has to change, raise `airlab.store.fingerprint.SCHEME` and say so in docs/LOG.md.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from airlab.schema.base import Frozen
from airlab.store.files import Files
from airlab.store.fingerprint import canonical, fingerprint
from airlab.store.stage import Stage


class Recipe(Frozen):
    rate: float = 3e-4
    steps: int = 1000
    warm_up: float | None = None


@dataclass(frozen=True)
class Span:
    start: int
    stop: int = 5


@dataclass(frozen=True)
class MakeThing(Stage):
    VERSION: ClassVar[int] = 1
    value: Any = None


@dataclass(frozen=True)
class UseThings(Stage):
    VERSION: ClassVar[int] = 3
    thing: MakeThing
    recipe: Recipe
    more: tuple[Stage, ...] = ()


FORMS: list[tuple[object, bytes]] = [
    (None, b"null"),
    ((True, 1, 1.0, -0.0, 1e22, 5e-324, 0.1), b"[true,1,1.0,-0.0,1e+22,5e-324,0.1]"),
    ("é\n\U0001f600", b'"\\u00e9\\n\\ud83d\\ude00"'),
    ({"b": 1, "a": (), "!c": {}}, b'{"!!c":{},"a":[],"b":1}'),
    (Recipe(), b'{"!Recipe":{"rate":0.0003,"steps":1000,"warm_up":null}}'),
    (Span(2), b'{"!Span":{"start":2,"stop":5}}'),
    (Files("ab" * 32, Path("anywhere")), b'{"!files":"' + b"ab" * 32 + b'"}'),
]

ADDRESSES: list[tuple[Stage, str]] = [
    (MakeThing(), "d06e4fb22bf1aaee7128d98c4e6614826c2d52b779dedfc59219610e5f77e505"),
    (MakeThing("x"), "d3a2a60d0b019c5fff830508acdac70bdcad1ab40be5643cd54d0c29d5289c0b"),
    (MakeThing((True, 1, 1.0, 0.1)), "5f54d41a8f9926d8dc91fd5416659089eb37fb69b3fb1661279005a85618e78e"),
    (MakeThing(Recipe(rate=0.5)), "22c758a3aa5993355b187f65b52872067f3bc034c7fcfc0fb38b5852a79aafab"),
    (MakeThing({"a": Span(1)}), "0aaf54c39df45b0f2cd02b64b9e54b361c63ea928cfc86e2840ede29e877cae7"),
    (
        MakeThing(Files("ab" * 32, Path("anywhere"))),
        "30b1bfe67ce3053f99c25ae313cf9266ab263faaeeec3913ca5d3289f507257d",
    ),
    (UseThings(MakeThing("x"), Recipe()), "6bed10120fd53738850bdfb5fce3a32b4c13b6f2ca054f7833bfa88008e6304b"),
    (
        UseThings(MakeThing("x"), Recipe(), (MakeThing(), UseThings(MakeThing(), Recipe()))),
        "cb17baeffa7b69b962c2da43a927d917e5117243114ad8f1255090fc7c62b011",
    ),
]


@pytest.mark.parametrize(("value", "expected"), FORMS, ids=lambda item: "")
def test_the_canonical_form_of_each_kind_of_value(value: object, expected: bytes) -> None:
    assert canonical(value) == expected


@pytest.mark.parametrize(("stage", "expected"), ADDRESSES, ids=lambda item: "")
def test_the_address_of_each_kind_of_stage(stage: Stage, expected: str) -> None:
    assert fingerprint(stage) == expected


CONTENTS = [
    ("one.txt", "38ebe4da3171a880e5a42492dd5438ea4afb6935b0ddfa1686f2c1b999b00efd"),
    ("folder", "975d33270cbecf84d4502db2a44f33950b0273a570b3252367437db3720a6e4b"),
]


def test_the_hash_of_a_file_and_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_bytes(b"one")
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "deep" / "é.txt").write_bytes(b"two")
    assert [Files.of(tmp_path / name).sha256 for name, _ in CONTENTS] == [sha256 for _, sha256 in CONTENTS]
