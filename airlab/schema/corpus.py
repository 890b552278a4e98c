"""Any corpus a configuration may name."""

from typing import Annotated, Literal

from pydantic import Field

from airlab.schema.base import Frozen
from airlab.schema.text import Columns, HubDataset, PoolSpec


class PoolCorpus(Frozen):
    """The embedded pool of real text, built from pinned packages."""

    kind: Literal["pool"]
    pool: PoolSpec


class HubCorpus(Frozen):
    """A data set on a hub at a pinned commit."""

    kind: Literal["hub"]
    hub: HubDataset
    columns: Columns


class LocalCorpus(Frozen):
    """The user's own file or folder."""

    kind: Literal["local"]
    path: str
    columns: Columns


Corpus = Annotated[PoolCorpus | HubCorpus | LocalCorpus, Field(discriminator="kind")]
