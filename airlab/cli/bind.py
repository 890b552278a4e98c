"""From a composed, untyped configuration to frozen, strictly typed values."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import BaseModel, ValidationError

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
    # A tagged union puts the tag into the location; users know keys only.
    where = [str(part) for part in first["loc"]]
    key = ".".join(where) or "the configuration"
    if first["type"] == "extra_forbidden":
        known = ", ".join(sorted(_fields_at(schema, where[:-1])))
        return f"there is no setting {key}" + (f"; known there: {known}." if known else ".")
    if first["type"] == "missing":
        return f"{key} is missing; give it as {key}=..."
    message = first["msg"].removeprefix("Value error, ")
    return f"{key}={first['input']!r} is not possible: {message[0].lower()}{message[1:]}."


def _fields_at(schema: type[BaseModel], where: list[str]) -> set[str]:
    current: Any = schema
    for part in where:
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            return set()
        current = field.annotation
    return set(getattr(current, "model_fields", {}))
