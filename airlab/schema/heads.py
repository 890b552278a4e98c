"""Probes, retrieval scores, and which heads to mask how."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from airlab.schema.base import Frozen

Share = Annotated[float, Field(gt=0, le=1)]


class Probes(Frozen):
    """The proxy task that finds retrieval heads (AttentionInfluence, Section 4.1 and Appendix A)."""

    count: PositiveInt = 800
    max_tokens: Annotated[int, Field(ge=256)] = 4096
    """Tokens of one probe, answer included; the context is filled up to this."""
    demonstrations: PositiveInt = 3
    max_value_tokens: PositiveInt = 30
    """Longest value, in the model's own tokens."""
    seed: int = 0


class Detection(Frozen):
    """How copies are counted; the paper leaves all three open (DEVIATIONS.md)."""

    decoding: Literal["teacher_forced", "generated"] = "teacher_forced"
    """Whether the answer's tokens are given, or produced greedily by the model."""
    argmax_in: Literal["anywhere", "needle"] = "anywhere"
    """Where the most-attended position must lie for its token to count as copied."""
    failed_retrievals: Literal["count", "skip"] = "count"
    """Whether probes that the model answers wrongly count."""
    precision: Literal["float32", "bfloat16"] = "float32"


class Masking(Frozen):
    """Which share of heads is masked, and what masking means."""

    share_of_heads: Share = 0.05
    mode: Literal["uniform", "zero"] = "uniform"
    """`uniform` attention over the visible prefix (the paper's), or a `zero` head output."""
