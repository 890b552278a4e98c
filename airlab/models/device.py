"""Putting the machine's settings into effect."""

import numpy as np
import torch

from airlab.errors import UserError
from airlab.models.cpu import use_fast_exact_float32
from airlab.schema.machine import Machine

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def use_device(machine: Machine) -> str:
    """The device to load models on, with float32 products fast but exact.

    Raises:
        UserError: the machine has no such device.
    """
    if machine.device == "cuda":
        if not torch.cuda.is_available():
            raise UserError(
                "this machine configuration asks for a GPU and PyTorch finds none; use machine=cpu."
            )
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        # cuDNN's attention plans anew for every length, and every document has its own.
        torch.backends.cuda.enable_cudnn_sdp(False)
    else:
        use_fast_exact_float32()
    return machine.device


def to_device(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """A copy on the device; the host does not wait for a GPU."""
    host = torch.from_numpy(values)
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a computation failed because the GPU's or the host's memory did not hold it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
