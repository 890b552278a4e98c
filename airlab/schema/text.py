"""What a corpus is made of: pinned wheels, the pool built from them, and the user's own data."""

from typing import Literal, Self

import regex
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

from airlab.schema.base import Frozen

Domain = Literal["prose", "mathematics", "code", "reference", "reasoning", "low_value"]
DOMAINS: tuple[Domain, ...] = ("prose", "mathematics", "code", "reference", "reasoning", "low_value")


class WheelPin(Frozen):
    """One file in the package registry, which pip can fetch and a hash can hold to account."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+!-]*$")
    file: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+!-]*\.whl$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class WheelSource(Frozen):
    """Text of one kind read out of one wheel."""

    wheel: str
    """Name of one of the spec's wheels."""
    reader: str
    """Name of a reader in `airlab.text.sources`."""
    members: str | None = None
    """Regular expression; only members of the archive in whose name it is found are read."""
    domain: Domain
    licence: str = Field(min_length=1)
    weight: PositiveFloat = 1.0
    """Share of its domain's bytes relative to the domain's other sources, while it has text left."""
    max_bytes: PositiveInt | None = None
    """Cap on what is taken from this source, however much the domain could hold."""


class ReasoningSpec(Frozen):
    """Generated question-and-reasoning documents (engram-generator's verified generators)."""

    max_tier: int = Field(default=5, ge=0, le=8)
    """Hardest tier of problems: 0-1 arithmetic, up to 5 first-year university formulas."""
    problems_per_document: PositiveInt = 4
    """Problems in one document, each from another generator: no template repeats within one."""
    rounds: PositiveInt = 200
    """Most problems drawn from each generator."""


class PoolSpec(Frozen):
    """The embedded pool of real text: which text, how much, and what is held out."""

    wheels: tuple[WheelPin, ...]
    sources: tuple[WheelSource, ...]
    bytes_per_domain: dict[Domain, PositiveInt]
    """UTF-8 bytes of text kept for each domain, at most; a domain not named here is left out."""
    heldout_bytes_per_domain: dict[Domain, NonNegativeInt]
    """UTF-8 bytes set aside for each domain; in no case part of the pool."""
    reasoning: ReasoningSpec | None = None
    """Generated documents for the domain `reasoning`; null for none."""
    min_characters: PositiveInt = 300
    max_characters: PositiveInt = 8000
    near_duplicate_threshold: float = Field(default=0.7, gt=0, le=1)
    """Estimated Jaccard similarity of word 5-grams from which two documents count as one."""
    seed: int = 0

    @field_validator("sources")
    @classmethod
    def _patterns(cls, sources: tuple[WheelSource, ...]) -> tuple[WheelSource, ...]:
        for source in sources:
            try:
                regex.compile(source.members or "")
            except regex.error as error:
                raise ValueError(f"'{source.members}' is not a regular expression: {error}") from error
        return sources

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [wheel.name for wheel in self.wheels]
        if len(set(names)) != len(names):
            raise ValueError("two wheels have the same name")
        if unknown := sorted({source.wheel for source in self.sources} - set(names)):
            raise ValueError(f"sources name wheels that are not pinned: {', '.join(unknown)}")
        if self.min_characters >= self.max_characters:
            raise ValueError("min_characters must be below max_characters")
        supplied = {source.domain for source in self.sources} | ({"reasoning"} if self.reasoning else set())
        asked = set(self.bytes_per_domain) | set(self.heldout_bytes_per_domain)
        if missing := sorted(asked - supplied):
            raise ValueError(f"no source supplies the domain {', '.join(missing)}")
        return self


class Columns(Frozen):
    """Which columns of the user's data hold what; null means: find it by its usual name."""

    text: str | None = None
    id: str | None = None
    domain: str | None = None
    default_domain: str = Field(default="all", min_length=1)
    """Domain of every document where there is no domain column."""


class HubDataset(Frozen):
    """A data set on the Hugging Face hub at one commit; a branch name could change under us."""

    name: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")
    config: str | None = None
    split: str = "train"
    max_documents: PositiveInt | None = None
    """Take only the first so many documents of the stream; null for all."""
