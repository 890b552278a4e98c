"""How and where to run: never part of any result's identity."""

from typing import Literal

from pydantic import PositiveInt

from airlab.schema.base import Frozen


class Machine(Frozen):
    """What the computer in front of us offers.

    Nothing in here may change a result beyond rounding; invariance tests hold it to that.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    tokens_per_batch: PositiveInt = 4096
    """Packed tokens in one scoring forward pass."""
    sequences_per_micro_batch: PositiveInt = 8
    """Training sequences in one forward pass; gradients accumulate to the configured batch."""
    processes: PositiveInt = 1
    """Training processes on this host; above one, training starts them through torchrun."""
    deepspeed_stage: Literal[0, 1, 2, 3] | None = None
    """ZeRO stage; null trains without DeepSpeed."""
