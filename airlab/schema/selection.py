"""How much is selected, and from where."""

from typing import Annotated, Literal

from pydantic import Field

from airlab.schema.base import Frozen


class Selecting(Frozen):
    """The rule that turns scores into a subset, the same for every selector."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.2
    """How much of the pool is selected (AttentionInfluence, Section 4.2: the top 20 %)."""
    unit: Literal["documents", "tokens"] = "documents"
    """What the share counts; the paper's numbers fit documents. Of traces, `documents` are whole traces."""
    scope: Literal["domain", "global"] = "domain"
    """Whether units compete within their domain only (the paper) or all together."""
