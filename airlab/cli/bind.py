"""From a composed, untyped configuration to frozen, strictly typed values."""

import json
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from airlab.errors import UserError

Bound = TypeVar("Bound", bound=BaseModel)


def to_plain(config: DictConfig) -> dict[str, Any]:
    """Resolve interpolations and refuse values that were left open."""
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        key = str(error.full_key or error).strip()
        shown = key.removesuffix(".path") if key == "input.path" else key
        raise UserError(f"{shown} is missing; give it as {shown}=...") from None
    except OmegaConfBaseException as error:
        raise UserError(f"the configuration cannot be resolved: {str(error).splitlines()[0]}.") from None
    assert isinstance(plain, dict)
    return {str(k): v for k, v in plain.items()}


def bind(schema: type[Bound], plain: Mapping[str, Any]) -> Bound:
    """Check a plain configuration against its schema.

    Raises:
        UserError: the first thing that does not fit, with its full key.
    """
    try:
        # JSON mode: lists become tuples and integers may stand for floats, and nothing else is converted.
        return schema.model_validate_json(json.dumps(plain))
    except ValidationError as error:
        raise UserError(_sentence(schema, error)) from None


def _sentence(schema: type[BaseModel], error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    *parents, last = first["loc"] or ("the configuration",)
    keys, found = _follow(schema, parents)
    if first["type"] == "extra_forbidden":
        key = ".".join([*keys, str(last)])
        known = ", ".join(sorted(getattr(found, "model_fields", {})))
        return f"there is no setting {key}" + (f"; known there: {known}." if known else ".")
    key = ".".join(_follow(schema, [*parents, last])[0])
    if first["type"] == "missing":
        return f"{key} is missing; give it as {key}=..."
    message = first["msg"].removeprefix("Value error, ")
    shown = key if isinstance(first["input"], dict | list) else f"{key}={first['input']!r}"
    return f"{shown} is not possible: {message[0].lower()}{message[1:]}."


def _follow(schema: Any, location: Sequence[str | int]) -> tuple[list[str], Any]:
    """The keys that a user knows along a validation error's location, and the type they lead to.

    In a union of models the location also names the member by its kind, which is no key.
    """
    keys: list[str] = []
    for part in location:
        members = _members(schema)
        tagged = [m for m in members if part in get_args(m.model_fields.get("kind", _NO_FIELD).annotation)]
        if len(members) > 1 and tagged:
            schema = tagged[0]
            continue
        keys.append(str(part))
        fields = (m.model_fields[part].annotation for m in members if part in m.model_fields)
        schema = next(iter(get_args(schema)), None) if isinstance(part, int) else next(fields, None)
    return keys, schema


_NO_FIELD = FieldInfo(annotation=NoneType)


def _members(schema: Any) -> list[type[BaseModel]]:
    """The models that an annotation allows."""
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return [schema]
    if get_origin(schema) in (Annotated, Union, UnionType):
        return [member for inner in get_args(schema) for member in _members(inner)]
    return []
