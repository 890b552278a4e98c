"""Section `roofline`: where the time of one step goes, component by component, against both ceilings."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

from scorebench.arithmetic import ATTENTION, OUTPUT, PROJECTIONS, REST, count
from scorebench.clock import airlab_switches, copy_rate, matmul_rate, release, timed
from scorebench.contenders import engine_losses
from scorebench.options import Options
from scorebench.subjects import Subject, leading, log_normal_documents

_OTHER = "other"
_PATTERNS = (
    # What the compiler made is named after all that surrounds it: a rotation after the attention it feeds.
    (ATTENTION, r"^(?!triton_(poi|per|red)_).*(flash|fmha|attention|attn|attend|sdpa|flex)"),
    (OUTPUT, r"loss|entropy|logsumexp|log_softmax|online_softmax|cross|nll|logit|amax|vocab|^_fold"),
    (
        PROJECTIONS,
        r"gemm|nvjet|cutlass|matmul|wgmma|xmma|cublas|mkldnn|(^|[_:])(add|b)?mm(_|$)|linear|splitk|swiglu",
    ),
    (REST, r"triton|norm|elementwise|vectorized|reduce|cat|index|gather|embedding|copy|mem(cpy|set)|aten::"),
)
"""Component by kernel name, first match; a matrix product with the vocabulary among its sizes is `OUTPUT`."""

_LISTED = 25


class Kernel(NamedTuple):
    """One kind of kernel: name, seconds in all, and the sizes its operation was called with, if known."""

    name: str
    seconds: float
    sizes: frozenset[int]


def component(kernel: Kernel, vocabulary: int) -> str:
    """Which part of the accounting a kernel belongs to."""
    for part, pattern in _PATTERNS:
        if re.search(pattern, kernel.name, re.IGNORECASE):
            return OUTPUT if part == PROJECTIONS and vocabulary in kernel.sizes else part
    return _OTHER


def _sizes(shapes: Any) -> frozenset[int]:
    """All whole numbers in nested lists."""
    if isinstance(shapes, int):
        return frozenset([shapes])
    if isinstance(shapes, list | tuple):
        return frozenset().union(*map(_sizes, shapes))
    return frozenset()


def gpu_kernels(trace: Path) -> Iterator[Kernel]:
    """Kernels of a Chrome trace, each with the sizes of the operation that launched it."""
    events = json.loads(trace.read_text())["traceEvents"]
    shapes = {
        event["args"]["External id"]: _sizes(event["args"].get("Input Dims", []))
        for event in events
        if event.get("cat") == "cpu_op" and "External id" in event.get("args", {})
    }
    for event in events:
        if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset"):
            launched_by = event.get("args", {}).get("External id")
            yield Kernel(event["name"], event["dur"] / 1e6, shapes.get(launched_by, frozenset()))


def _kernels(profiled: profile, options: Options) -> list[Kernel]:
    if options.device == "cuda":
        trace = options.scratch / "trace.json"
        profiled.export_chrome_trace(str(trace))
        return list(gpu_kernels(trace))
    return [
        Kernel(event.key, event.self_cpu_time_total / 1e6, _sizes(event.input_shapes))
        for event in profiled.key_averages(group_by_input_shape=True)
    ]


def run(options: Options, subjects: Sequence[Subject]) -> dict[str, Any]:
    """One step of each subject."""
    flops = matmul_rate(options.device, options.dtype, options.matmul_size).sustained
    copied = copy_rate(options.device, options.copy_mebibytes)
    steps = {}
    for subject in subjects:
        steps[subject.name] = _step(options, subject, flops, copied)
        release(options.device)
    return {
        "bound_flops": flops,
        "copy_bytes": copied,
        "dtype": str(options.dtype).removeprefix("torch."),
        "subjects": steps,
    }


def _step(options: Options, subject: Subject, flops: float, copied: float) -> dict[str, Any]:
    documents = log_normal_documents(
        options.tokens_per_step, subject.config.vocab_size, cap=options.longest_document
    )
    documents = leading(documents, options.tokens_per_step)  # a full step, as all but the last are
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (options.device == "cuda")
    with airlab_switches(options.machine()) as device:
        lm = subject.engine(device, options.dtype)
        reference = subject.reference(lm)

        def step() -> None:
            engine_losses(lm, reference, documents, options.tokens_per_step)

        step()  # a second call is the first with everything compiled, whatever the engine marks as dynamic
        wall = timed(step, device, options.repeats)
        with profile(activities=activities, record_shapes=True) as profiled:
            step()
            if device == "cuda":
                torch.cuda.synchronize()
        kernels = _kernels(profiled, options)
    lengths = [len(d) for d in documents]
    least = count(subject.config, lengths, subject.first_masked, options.dtype.itemsize)
    seconds = dict.fromkeys([*least, _OTHER], 0.0)
    by_name: dict[tuple[str, str], float] = {}
    for kernel in kernels:
        part = component(kernel, subject.config.vocab_size)
        seconds[part] += kernel.seconds
        by_name[part, kernel.name] = by_name.get((part, kernel.name), 0) + kernel.seconds
    parts = {
        part: {
            "seconds": seconds[part],
            "flops": work.flops,
            "bytes": work.bytes,
            "ceiling_s": max(work.flops / flops, work.bytes / copied),
            "bound_by": "arithmetic" if work.flops / flops >= work.bytes / copied else "memory",
        }
        for part, work in least.items()
    }
    top = sorted(by_name.items(), key=lambda item: -item[1])[:_LISTED]
    return {
        "subject": subject.facts(),
        "documents": len(documents),
        "tokens": sum(lengths),
        "step_s": wall.seconds,
        "peak_gib": wall.facts()["peak_gib"],
        "kernels_s": sum(seconds.values()),
        "parts": parts | {_OTHER: {"seconds": seconds[_OTHER]}},
        "top_kernels": [{"part": part, "name": name[:120], "seconds": s} for (part, name), s in top],
    }
