"""What a stage is, as bytes, and the sha-256 of those bytes: the address of its result.

The rule is one way: two values may share an address only if nothing can tell them apart. So ``1``,
``1.0`` and ``True`` differ, ``-0.0`` differs from ``0.0`` (a needless rerun is cheap, a wrong reuse is
not), and whatever has no canonical form is refused instead of being printed by ``repr``.

The forms, inside compact JSON with sorted keys and ASCII escapes:

- ``None``, ``bool``, ``int``, ``str``: as in JSON; finite ``float``: shortest digits that read back equal.
- ``tuple``: array. ``dict`` with string keys: object; a key's leading ``!`` is doubled.
- frozen dataclass or pydantic model: ``{"!ClassName": {every field, defaults resolved}}``. The module is
  left out, so moving a file is free and renaming a class is not.
- `Files`: ``{"!files": content hash}``; a `Stage`: ``{"!stage": its fingerprint}``.
"""

import dataclasses
import hashlib
import json
import math
from typing import Any

from pydantic import BaseModel

from airlab.schema.machine import Machine
from airlab.store.files import Files
from airlab.store.stage import Stage

SCHEME = 1
"""Version of these rules; raising it moves every address."""


_KNOWN = "_fingerprint"
"""Where a stage's fingerprint is kept once it is computed."""


class Refused(TypeError):
    """A value that has no canonical form; the message says where it sits and what type it is."""


def canonical(value: object) -> bytes:
    """Canonical JSON of a value (see the module's docstring).

    Raises:
        Refused: for NaN and infinity, paths, lists, sets, callables, subclasses of the plain types
            (NumPy scalars, enums), mutable objects and anything else unknown.
    """
    return dump_canonical(_form(value, type(value).__name__))


def dump_canonical(tree: object) -> bytes:
    """The one way in which already canonical JSON values become bytes."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def identity(stage: Stage) -> dict[str, Any]:
    """The JSON tree whose canonical bytes are hashed: scheme, stage name, VERSION, all fields.

    Raises:
        Refused: if a field is refused, VERSION is not a positive int, or ``@dataclass`` was forgotten.
    """
    cls = type(stage)
    version: object = getattr(cls, "VERSION", None)
    if type(version) is not int or version < 1:
        raise Refused(f"{cls.__name__}.VERSION must be a positive int, found {version!r}")
    fields = {name: _form(item, f"{cls.__name__}.{name}") for name, item in _fields(stage, cls.__name__)}
    return {"scheme": SCHEME, "stage": stage.name, "version": version, "fields": fields}


def fingerprint(stage: Stage) -> str:
    """64 hex digits: sha-256 of `identity`. Computed once for an object, since stages never change."""
    if _KNOWN in vars(stage):
        return str(vars(stage)[_KNOWN])
    waiting = [stage]
    while waiting:  # inputs first, without recursion: a chain may be longer than Python's stack
        unknown = [item for item in waiting[-1].inputs() if _KNOWN not in vars(item)]
        if _KNOWN in vars(waiting[-1]) or not unknown:
            last = waiting.pop()
            if _KNOWN not in vars(last):
                digest = hashlib.sha256(dump_canonical(identity(last))).hexdigest()
                object.__setattr__(last, _KNOWN, digest)
        else:
            waiting += unknown
    found: str = vars(stage)[_KNOWN]
    return found


def _form(value: object, where: str) -> Any:
    if isinstance(value, Stage):
        return {"!stage": fingerprint(value)}
    if isinstance(value, Files):
        return {"!files": value.sha256}
    if isinstance(value, Machine):
        raise Refused(f"{where}: a Machine says where to run, which is no part of an identity")
    if type(value) is str:
        _check_text(value, where)
    # Exact types: an enum, a NumPy scalar or any other subclass carries more than its plain value.
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise Refused(f"{where}: {value} is not a finite number")
        return value
    if type(value) is tuple:
        return [_form(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if type(value) is dict:
        return _dict_form(value, where)
    if isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        fields = {name: _form(item, f"{where}.{name}") for name, item in _fields(value, where)}
        return {f"!{type(value).__name__}": fields}
    hint = " (use a tuple)" if isinstance(value, list | set | frozenset) else ""
    raise Refused(f"{where}: a {type(value).__name__} cannot be part of an identity{hint}")


def _check_text(value: str, where: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Refused(f"{where}: the str {value!r} holds half a character and is no text") from error


def _dict_form(value: dict[Any, Any], where: str) -> dict[str, Any]:
    form = {}
    for key, item in value.items():
        if type(key) is not str:
            raise Refused(f"{where}: key {key!r} is a {type(key).__name__}, not a string")
        _check_text(key, where)
        form["!" + key if key.startswith("!") else key] = _form(item, f"{where}[{key!r}]")
    return form


def _fields(value: object, where: str) -> list[tuple[str, object]]:
    """Names and values of all fields; refuses objects that could change or hide a field."""
    cls = type(value)
    if isinstance(value, BaseModel):
        if not cls.model_config.get("frozen"):  # type: ignore[attr-defined]
            raise Refused(f"{where}: {cls.__name__} is not frozen")
        if value.model_extra:
            raise Refused(f"{where}: {cls.__name__} holds undeclared fields {sorted(value.model_extra)}")
        return [(name, getattr(value, name)) for name in cls.model_fields]  # type: ignore[attr-defined]
    if "__dataclass_fields__" not in vars(cls) or not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise Refused(f"{where}: {cls.__name__} must itself be decorated with @dataclass(frozen=True)")
    return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]  # type: ignore[arg-type]
