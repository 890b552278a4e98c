"""Float32 matrix products at full speed on CPUs where that costs no precision."""

import torch

_EXACT = 2e-6
"""Relative error of an honest float32 product of this size; true bfloat16 products are near 2e-3."""


def use_fast_exact_float32() -> bool:
    """Route float32 matrix products to oneDNN if it keeps float32 precision on this CPU.

    PyTorch sends float32 products on x86 to MKL, which runs at less than half of the peak on
    some CPUs. Allowing oneDNN to use bfloat16 also makes PyTorch choose oneDNN; on CPUs without
    the matrix instructions for that (AMX) it then computes in plain float32. Whether it did is
    measured here against float64, and the switch is taken back if precision was lost.

    Returns:
        Whether the fast path is on.
    """
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    if not torch.backends.mkldnn.is_available():
        return False
    draw = torch.Generator().manual_seed(0)
    for shape in ((512, 576, 1536), (256, 64, 256)):
        rows, inner, columns = shape
        a = torch.randn(rows, inner, generator=draw)
        b = torch.randn(columns, inner, generator=draw)
        matmul.fp32_precision = "bf16"
        product = torch.nn.functional.linear(a, b).double()
        exact = a.double() @ b.double().T
        if float((product - exact).norm() / exact.norm()) > _EXACT:
            matmul.fp32_precision = "ieee"
            return False
    return True
