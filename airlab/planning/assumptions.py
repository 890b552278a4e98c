"""What a plan is told, because no measurement and no file on this machine says it."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from airlab.schema.base import Frozen
from airlab.schema.training import TargetModel

Share = Annotated[float, Field(ge=0, le=1)]


class Assumptions(Frozen):
    """What `planning` in `configs/plan.yaml` binds to."""

    hosts: PositiveInt | None
    """Hosts like the machine's; only hours by the clock and what training shares out depend on it. Null takes
    as many as the machine has."""
    gpu_memory_gib: PositiveFloat
    peak_tflops: PositiveFloat
    """A GPU's matrix products in bfloat16, by its data sheet: what MFU counts from."""
    training_mfu: Annotated[float, Field(gt=0, le=1)]
    """Used where no training rate was measured; see `airlab.planning.work` for what it counts."""
    evaluation_mfu: Annotated[float, Field(gt=0, le=1)]
    evaluation_tokens: PositiveInt
    """Read and written for one checkpoint."""
    unmasked_share_of_layers: Share
    """Layers below the first masked head, which both models share, before heads were found."""
    bytes_per_token: PositiveFloat
    """UTF-8 bytes of text a token."""
    tokens_per_document: PositiveInt
    corpus_tokens: PositiveInt | None
    """Null takes them from the pool's configured bytes, and knows none of another corpus."""
    selector: TargetModel
    """Shape of the scoring model, used where the model is not on this machine."""
