"""Kernels find their component, whatever launched them."""

import json
from pathlib import Path
from typing import Any

import pytest

from scorebench.arithmetic import ATTENTION, OUTPUT, PROJECTIONS, REST
from scorebench.roofline import Kernel, component, gpu_kernels

VOCABULARY = 49152


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("nvjet_tst_192x192_64x4_2x1_v_bz_coopA_TNN", PROJECTIONS),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64", PROJECTIONS),
        ("void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm>", PROJECTIONS),
        ("void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128>>", ATTENTION),
        ("triton_tem_fused_flex_attention_0", ATTENTION),
        ("triton_tem_fused_mm_3", PROJECTIONS),
        ("aten::addmm", PROJECTIONS),
        ("_swiglu", PROJECTIONS),
        ("_attend", ATTENTION),
        ("_fold", OUTPUT),
        ("triton_poi_fused_add_mul_silu_2", REST),
        ("triton_poi_fused_add_cat_mul_neg_packed_attention_slice_transpose_1", REST),
        ("triton_red_fused_amax_exp_sub_sum_1", OUTPUT),
        ("triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_0", REST),
        ("void at::native::elementwise_kernel<128, 4>", REST),
        ("Memcpy DtoH (Device -> Pinned)", REST),
        ("something_unheard_of", "other"),
    ],
)
def test_components_by_name(name: str, part: str) -> None:
    assert component(Kernel(name, 1.0, frozenset()), VOCABULARY) == part


def test_a_product_with_the_vocabulary_is_the_output_projection(tmp_path: Path) -> None:
    def launched(number: int, columns: int) -> dict[str, Any]:
        shapes = [[64, 576], [576, columns]]
        return {"cat": "cpu_op", "name": "aten::mm", "args": {"External id": number, "Input Dims": shapes}}

    events = [
        launched(7, VOCABULARY),
        launched(8, 1536),
        {"cat": "kernel", "name": "nvjet_a", "dur": 30, "args": {"External id": 7}},
        {"cat": "kernel", "name": "nvjet_a", "dur": 10, "args": {"External id": 8}},
        {"cat": "kernel", "name": "nvjet_a", "dur": 5, "args": {}},
        {"cat": "gpu_user_annotation", "name": "whole step", "dur": 999},
        {"name": "process_name"},
    ]
    trace = tmp_path / "trace.json"
    trace.write_text(json.dumps({"traceEvents": events}))
    found = list(gpu_kernels(trace))
    assert sum(kernel.seconds for kernel in found) == pytest.approx(45e-6)
    assert [component(kernel, VOCABULARY) for kernel in found] == [OUTPUT, PROJECTIONS, PROJECTIONS]
