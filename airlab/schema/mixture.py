"""How a selected subset and the full pool become one training stream."""

from typing import Literal

from airlab.schema.base import Frozen


class MixtureSpec(Frozen):
    """What one pass over the data contains; passes repeat, freshly shuffled, until the budget is spent."""

    kind: Literal["upsample", "subset_only"] = "upsample"
    """`upsample` (AttentionInfluence, section 3.3: the full corpus plus the selected subset): every
    document once and every selected document once more. `subset_only`: the selected documents alone."""
