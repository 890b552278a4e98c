"""Memory that does not suffice for training, as a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from airlab.errors import UserError, first_line
from airlab.schema.machine import Machine

_CPU_ALLOCATOR = "DefaultCPUAllocator: "
"""How PyTorch's error begins that has no type of its own."""


@contextmanager
def memory_errors(machine: Machine) -> Iterator[None]:
    """Raise UserError instead, naming what the machine's settings could still do."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        of_cpu = isinstance(error, MemoryError) or _CPU_ALLOCATOR in str(error)
        if not of_cpu and not isinstance(error, torch.OutOfMemoryError):
            raise
        where = "The host" if of_cpu else "A GPU"
        raise UserError(
            f"{where} ran out of memory while training ({first_line(error)}): {_remedies(machine, of_cpu)}; "
            "what the last checkpoint has is kept, and the same command continues it."
        ) from error


def _remedies(machine: Machine, of_cpu: bool) -> str:
    remedies = []
    if machine.sequences_per_micro_batch > 1:
        remedies.append(
            f"lower machine.sequences_per_micro_batch, which is {machine.sequences_per_micro_batch}"
        )
    if not machine.recompute:
        remedies.append("set machine.recompute=true")
    if machine.deepspeed_stage != 3:
        remedies.append("share the model out with machine.deepspeed_stage=3 over more machine.processes")
    elif machine.offload != "all" and not of_cpu:
        remedies.append("keep optimizer and weights in the host's memory with machine.offload=all")
    else:
        remedies.append("share the model out over more machine.hosts")
    return ", or ".join(remedies)
