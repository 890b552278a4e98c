"""Memory by arithmetic: against the ZeRO paper, DeepSpeed's own estimate, and what autograd really keeps."""

import json

import pytest
import torch
from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs as zero3_needs
from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs as zero2_needs

from airlab.cli.plan import TRAINING_RATES, rates_file
from airlab.planning import memory
from airlab.planning.memory import (
    PLAIN,
    SHARDED,
    BytesPerParameter,
    Offload,
    Stage,
    activation_bytes,
    bytes_per_parameter,
    model_states,
    training_memory,
)
from airlab.planning.work import matrix_weights
from airlab.schema.training import TargetModel
from airlab.training.target import LOGITS_AT_ONCE, SummedLoss, build_target

GB = 1e9


def shape(**changed: int | bool) -> TargetModel:
    given: dict[str, int | bool] = {
        "vocabulary": 128, "hidden_size": 64, "layers": 2, "heads": 4, "kv_heads": 2,
        "intermediate_size": 192, "context": 64, "tie_embeddings": True,
    }  # fmt: skip
    return TargetModel.model_validate({**given, **changed})


@pytest.mark.parametrize(("stage", "expected"), [(0, 120.0), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_the_zero_papers_example_comes_out(stage: Stage, expected: float) -> None:
    """Rajbhandari et al. 2020, figure 1: 7.5B parameters, 64 GPUs, mixed precision with Adam."""
    mixed = BytesPerParameter(weights=2, gradients=2, optimizer=12)
    found = model_states(7_500_000_000, mixed, stage=stage, processes=64)
    assert found.gpu / GB == pytest.approx(expected, abs=0.05)
    assert found.host == 0


@pytest.mark.parametrize("parameters", [134_515_008, 6_979_321_856])
@pytest.mark.parametrize(("hosts", "per_host"), [(1, 1), (1, 8), (32, 8)])
def test_stage_2_is_what_deepspeed_estimates(parameters: int, hosts: int, per_host: int) -> None:
    """DeepSpeed counts 16-bit weights, 16-bit and float32 gradients, and 12 bytes of optimizer."""
    each = BytesPerParameter(weights=2, gradients=2 + 4, optimizer=12)
    for offload, cpu_offload in (("none", False), ("optimizer", True)):
        _, gpu = zero2_needs(parameters, per_host, hosts, cpu_offload=cpu_offload)
        found = model_states(parameters, each, stage=2, processes=hosts * per_host, offload=offload)  # type: ignore[arg-type]
        assert found.gpu == pytest.approx(gpu, abs=2)


@pytest.mark.parametrize("parameters", [134_515_008, 6_979_321_856])
@pytest.mark.parametrize(("hosts", "per_host"), [(1, 1), (1, 8), (32, 8)])
@pytest.mark.parametrize("offload", ["none", "optimizer", "all"])
def test_stage_3_is_what_deepspeed_estimates(
    parameters: int, hosts: int, per_host: int, offload: Offload
) -> None:
    """DeepSpeed takes the largest layer as gathered, at 16-bit weights and gradients."""
    each = BytesPerParameter(weights=2, gradients=4, optimizer=12)
    largest = parameters // 30
    cpu, gpu, layer = zero3_needs(
        parameters, largest, per_host, hosts, offload != "none", offload == "all",
        additional_buffer_factor=1.0,
    )  # fmt: skip
    found = model_states(
        parameters, each, stage=3, processes=hosts * per_host, processes_per_host=per_host,
        offload=offload, gathered=largest,
    )  # fmt: skip
    assert layer == 4 * largest  # both of them; ours counts the weights alone
    assert found.gpu - 2 * largest == pytest.approx(gpu - layer, abs=2)
    if offload != "none":  # otherwise DeepSpeed counts what loading takes
        assert found.host == pytest.approx(cpu, rel=1e-6)


def test_stages_share_out_more_and_more_and_offloading_loses_nothing() -> None:
    def total(stage: Stage, offload: Offload = "none") -> tuple[float, float]:
        found = model_states(1000, SHARDED, stage=stage, processes=4, processes_per_host=4, offload=offload)
        return found.gpu, found.host

    assert [total(stage)[0] for stage in (0, 1, 2, 3)] == [20_000, 11_000, 8_000, 5_000]
    assert total(3, "all") == (0, 20_000)
    assert total(2, "all") == total(2, "optimizer") == (4_000, 16_000)
    assert total(3, "optimizer") == (1_000, 16_000)


def test_airlab_trains_in_float32_and_keeps_a_copy_when_sharded() -> None:
    assert bytes_per_parameter(None) == bytes_per_parameter(0) == PLAIN
    assert {bytes_per_parameter(stage) for stage in (1, 2, 3)} == {SHARDED}
    assert (PLAIN.total, SHARDED.total) == (16, 20)


def kept(model: TargetModel, *, bfloat16: bool) -> int:
    """Bytes that autograd keeps for the backward pass of one sequence, without the weights themselves."""
    module = SummedLoss(build_target(model, 128, 0, seed=0))
    weights = {weight.untyped_storage().data_ptr() for weight in module.parameters()}
    found: dict[int, torch.Tensor] = {}  # held, so that no storage is used twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids = torch.zeros((1, model.context), dtype=torch.int64)
    positions = torch.arange(model.context) % (model.context // 2)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16),
    ):
        module(ids, positions[None], ids)
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values())


CHANGES: tuple[dict[str, int], ...] = (
    {}, {"kv_heads": 4}, {"intermediate_size": 256}, {"hidden_size": 128}, {"context": 128}, {"heads": 2}
)  # fmt: skip


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("changed", CHANGES)
def test_activations_are_what_autograd_keeps(changed: dict[str, int], bfloat16: bool) -> None:
    """To the byte: one layer more keeps this much more."""
    smaller, larger = shape(**changed), shape(**changed, layers=3)
    more = kept(larger, bfloat16=bfloat16) - kept(smaller, bfloat16=bfloat16)
    casts = 2 * matrix_weights(larger) if bfloat16 else 0
    assert more == larger.context * activation_bytes(larger, bfloat16=bfloat16) + casts


@pytest.mark.parametrize("changed", CHANGES[:4:3])
def test_activations_on_gpus_are_what_the_compiled_layer_keeps(changed: dict[str, int]) -> None:
    """To the byte; the compiler decides what is kept and what is computed again."""
    pytest.importorskip("triton")
    from airlab.training.document_attention import attention_tiles
    from airlab.training.gpu_target import _layer

    torch.compiler.reset()
    model = shape(**changed, layers=1, context=80)  # of no weight is a dimension 80
    layer = build_target(model, 128, 0, seed=0).model.layers[0].bfloat16()
    attention, feed_forward, size = layer.self_attn, layer.mlp, model.hidden_size // model.heads
    states = torch.zeros(model.context, model.hidden_size, dtype=torch.bfloat16, requires_grad=True)
    rotation = torch.zeros(model.context, 1, size // 2)
    found: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if model.context in tensor.shape[:2] and tensor.untyped_storage().nbytes() != rotation.nbytes:
            found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        torch.compile(_layer, backend="aot_eager_decomp_partition", dynamic=False, fullgraph=True)(
            states, states * 2, rotation, rotation + 1,
            tuple(torch.from_numpy(tiles.copy()) for tiles in attention_tiles([model.context], size)),
            (layer.input_layernorm.weight, layer.post_attention_layernorm.weight),
            tuple(getattr(attention, f"{name}_proj").weight for name in "qkvo"),
            tuple(getattr(feed_forward, f"{name}_proj").weight for name in ("gate", "up", "down")),
            size, 1e-5,
        )  # fmt: skip
    total = sum(tensor.untyped_storage().nbytes() for tensor in found.values())
    assert total == model.context * activation_bytes(model, bfloat16=True, fused=True)


@pytest.mark.parametrize("size", ["124m", "360m"])
def test_estimates_are_near_the_peaks_that_were_measured(size: str) -> None:
    results = json.loads(rates_file(TRAINING_RATES).read_text())
    row = results["sections"][size]["rows"][0]
    measured = {
        "124m": shape(vocabulary=49152, hidden_size=768, layers=12, heads=12, kv_heads=12,
                      intermediate_size=2048, context=2048),
        "360m": shape(vocabulary=49152, hidden_size=960, layers=32, heads=15, kv_heads=5,
                      intermediate_size=2560, context=2048),
    }[size]  # fmt: skip
    sequences = row["contender"]["micro_batch"]
    found = training_memory(measured, 49152, sequences=sequences, stage=None, processes=1, bfloat16=True)
    assert 0.93 < found.peak / 2**30 / row["peak_gib"] <= 1.0


def test_a_checkpoint_takes_one_whole_weight_of_a_gpu() -> None:
    big = shape(hidden_size=4096, layers=32, heads=32, kv_heads=8, intermediate_size=13312, context=8192,
                tie_embeddings=False)  # fmt: skip
    assert big.n_parameters(49152) == pytest.approx(6.98e9, rel=1e-3)
    found = training_memory(big, 49152, sequences=1, stage=3, processes=256, bfloat16=True)
    assert found.saving - found.states == 4 * 49152 * 4096 and found.peak == max(found.step, found.saving)
    largest = max(weight.numel() for weight in build_target(shape(), 128, 0, seed=0).parameters())
    small = training_memory(shape(), 128, sequences=1, stage=3, processes=2, bfloat16=True)
    assert small.checkpoint == 4 * largest
    assert training_memory(big, 49152, sequences=1, stage=None, processes=1, bfloat16=True).checkpoint == 0


def test_what_is_offloaded_lies_on_the_host() -> None:
    def memory(offload: Offload) -> tuple[float, float]:
        found = training_memory(
            shape(), 128, sequences=1, stage=3, processes=4, processes_per_host=2, bfloat16=True,
            offload=offload,
        )  # fmt: skip
        return found.states, found.host

    parameters = shape().n_parameters(128)
    (all_there, none), (less, some), (least, most) = (memory(each) for each in ("none", "optimizer", "all"))
    assert none == 0 and some == 2 * (all_there - less) == 2 * 16 * parameters / 4
    assert most == 2 * (all_there - least) == 2 * 20 * parameters / 4


def test_recomputing_layers_keeps_their_inputs_and_one_layer() -> None:
    def memory(layers: int) -> float:
        return training_memory(
            shape(layers=layers), 128, sequences=2, stage=None, processes=1, bfloat16=False, recompute=True
        ).activations

    assert memory(5) - memory(4) == 2 * 64 * 4 * 64
    assert memory(1) - (memory(5) - memory(4)) == 2 * 64 * activation_bytes(shape(), bfloat16=False)


def test_as_many_logits_are_planned_as_are_computed_at_once() -> None:
    pytest.importorskip("triton")
    from airlab.training import linear_loss

    assert (memory.LOGITS_AT_ONCE, memory.ROWS_AT_ONCE) == (LOGITS_AT_ONCE, linear_loss.ROWS_AT_ONCE)
