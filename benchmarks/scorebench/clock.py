"""Time, memory, and the machine's two ceilings."""

import gc
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from airlab.models.device import use_device
from airlab.schema.machine import Machine


@dataclass(frozen=True)
class Timing:
    """Runs of one contender.

    Attributes:
        first_s: the first run, which compiles and warms up.
        runs_s: the later ones.
        peak_bytes: most device memory allocated at any moment of any of them; None on a CPU.
        result: what the last run returned.
    """

    first_s: float
    runs_s: tuple[float, ...]
    peak_bytes: int | None
    result: Any

    @property
    def seconds(self) -> float:
        """Median of the later runs."""
        return statistics.median(self.runs_s)

    def facts(self) -> dict[str, Any]:
        """JSON of everything but the result."""
        return {
            "seconds": self.seconds,
            "runs_s": list(self.runs_s),
            "first_s": self.first_s,
            "peak_gib": None if self.peak_bytes is None else self.peak_bytes / 2**30,
        }


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def timed(
    work: Callable[[], Any], device: str, repeats: int, warm_up: Callable[[], Any] | None = None
) -> Timing:
    """Run `warm_up` (by default the work itself) once and `work` `repeats` times, waiting for the device."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds: list[float] = []
    result = None
    for step in [warm_up or work, *[work] * repeats]:
        _wait(device)
        start = time.perf_counter()
        result = step()
        _wait(device)
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    return Timing(seconds[0], tuple(seconds[1:]), peak, result)


def release(device: str, *, keep_compiled: bool = False) -> None:
    """Give back the memory of models that nobody holds any more, and of code compiled for them."""
    if not keep_compiled:
        torch._dynamo.reset()
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


@contextmanager
def airlab_switches(machine: Machine) -> Iterator[str]:
    """airlab's process-wide PyTorch settings inside the block, PyTorch's own again after it.

    The rivals run outside: they get PyTorch as it comes.
    """
    matmul, onednn = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = (matmul.fp32_precision, onednn.fp32_precision, torch.backends.cuda.cudnn_sdp_enabled())
    try:
        yield use_device(machine)
    finally:
        matmul.fp32_precision, onednn.fp32_precision = before[:2]
        torch.backends.cuda.enable_cudnn_sdp(before[2])


def _median_s(work: Callable[[], object], device: str, repeats: int) -> float:
    for _ in range(3):
        work()
    if device != "cuda":
        return timed(work, device, repeats).seconds
    seconds = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        seconds.append(start.elapsed_time(end) / 1000)
    return float(np.median(seconds))


@dataclass(frozen=True)
class MatmulRate:
    """FLOP/s of a large matrix product of random data.

    Attributes:
        burst: of single products, waited for one by one.
        sustained: of products back to back for seconds, as long runs have it: a GPU that reaches its
            power or temperature limit lowers its clock. Equal to `burst` on CPUs.
    """

    burst: float
    sustained: float


def matmul_rate(device: str, dtype: torch.dtype, size: int, *, seconds: float = 2.0) -> MatmulRate:
    """Rates of a `size`³ matrix product, as `linear` would compute it."""
    draw = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(size, size, generator=draw, device=device).to(dtype) for _ in range(2))
    with torch.inference_mode():
        once = _median_s(lambda: torch.nn.functional.linear(a, b), device, 20)
        if device != "cuda":
            return MatmulRate(2 * size**3 / once, 2 * size**3 / once)
        half = max(1, round(seconds / once / 2))
        for _ in range(half):  # warms up
            torch.nn.functional.linear(a, b)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(half):
            torch.nn.functional.linear(a, b)
        end.record()
        torch.cuda.synchronize()
    return MatmulRate(2 * size**3 / once, 2 * size**3 * half / (start.elapsed_time(end) / 1000))


def gpu_state() -> dict[str, str]:
    """Clock, power and temperature of the GPU right now, as its driver tells them."""
    asked = "clocks.sm,power.draw,temperature.gpu"
    said = subprocess.run(
        ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader", "--id=0"],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(zip(asked.split(","), said.stdout.strip().split(", "), strict=True))


def copy_rate(device: str, mebibytes: int, repeats: int = 20) -> float:
    """Bytes/s of a large copy in the device's memory, counting bytes read and bytes written."""
    draw = torch.Generator(device).manual_seed(0)
    source = torch.randint(0, 255, (mebibytes << 20,), dtype=torch.uint8, generator=draw, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / _median_s(lambda: target.copy_(source), device, repeats)


def device_name(device: str) -> str:
    """`cpu`, or a short name of the GPU such as `h100`."""
    if device == "cpu":
        return "cpu"
    name = re.sub(r"nvidia|[0-9]+ ?gb.*", "", torch.cuda.get_device_name().lower())
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")
