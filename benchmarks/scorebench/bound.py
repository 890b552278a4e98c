"""Section `bound`: what the machine can do at most, measured."""

from contextlib import nullcontext
from typing import Any

import torch

from scorebench.clock import airlab_switches, copy_rate, matmul_rate
from scorebench.options import Options


def run(options: Options) -> dict[str, Any]:
    """Rates of a large matrix product (random data) and of a large copy in the device's memory."""
    size = options.matmul_size
    facts: dict[str, Any] = {"matmul_size": size, "copy_mebibytes": options.copy_mebibytes}
    rates = {}
    for dtype in (torch.bfloat16, torch.float32):
        name = str(dtype).removeprefix("torch.")
        for whose, switches in (
            ("PyTorch as it comes", nullcontext()),
            ("airlab's switches", airlab_switches(options.machine())),
        ):
            with switches:
                rate = matmul_rate(options.device, dtype, size)
            rates[f"{name}, {whose}"] = rate.burst
            if rate.sustained != rate.burst:
                rates[f"{name}, {whose}, for seconds"] = rate.sustained
    return facts | {"flops": rates, "copy_bytes": copy_rate(options.device, options.copy_mebibytes)}
