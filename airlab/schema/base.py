"""The base of everything a YAML file may say."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """An immutable, strictly typed value: unknown keys, wrong types, NaN and infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
