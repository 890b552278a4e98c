"""The target's loss for GPUs against the library's model; without a GPU, through Triton's interpreter."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

pytest.importorskip("triton")

from airlab.errors import UserError
from airlab.schema.training import TargetModel
from airlab.training import linear_loss
from airlab.training.document_attention import attention_tiles
from airlab.training.gpu_target import GpuLoss, TiledSequences, document_lengths
from airlab.training.linear_loss import summed_linear_loss
from airlab.training.packing import NO_TARGET, PackedSequences
from airlab.training.target import SummedLoss, build_target
from tests.unit.training.test_training_target import a_mixture

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPE = TargetModel(
    vocabulary=64, hidden_size=32, layers=2, heads=2, kv_heads=1, intermediate_size=48, context=24,
    tie_embeddings=True,
)  # fmt: skip


@pytest.fixture(autouse=True)
def uncompiled():
    with torch.compiler.set_stance("force_eager"):
        yield


def target(**changes: object) -> LlamaForCausalLM:
    return build_target(SHAPE.model_copy(update=changes), 64, 0, seed=5).to(DEVICE)


def batch() -> tuple[torch.Tensor, ...]:
    lengths = [24, 5, 19, 1, 23]
    ids = torch.randint(0, 64, (3, 24), generator=torch.Generator().manual_seed(1))
    labels = torch.randint(0, 64, (3, 24), generator=torch.Generator().manual_seed(2))
    labels[2, -1] = NO_TARGET
    positions = torch.cat([torch.arange(n) for n in lengths]).view(3, 24)
    return tuple(tensor.to(DEVICE) for tensor in (ids, positions, labels))


def tiles(positions: torch.Tensor) -> list[torch.Tensor]:
    made = attention_tiles(document_lengths(positions.cpu().numpy()), 16)
    return [torch.from_numpy(tensor.copy()).to(DEVICE) for tensor in made]


@pytest.mark.parametrize("tied", [True, False])
def test_loss_and_every_gradient_are_those_of_the_library(tied: bool) -> None:
    ids, positions, labels = batch()
    ours, theirs = target(tie_embeddings=tied), target(tie_embeddings=tied)
    found = GpuLoss(ours, torch.float32)(ids, positions, labels, *tiles(positions)) * 0.5
    wanted = SummedLoss(theirs)(ids, positions, labels) * 0.5
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=0)
    found.backward()
    wanted.backward()
    for (name, weight), (its_name, its_weight) in zip(
        ours.named_parameters(), theirs.named_parameters(), strict=True
    ):
        assert name == its_name
        torch.testing.assert_close(weight.grad, its_weight.grad, rtol=1e-3, atol=2e-5, msg=name)


def test_layers_can_be_computed_again_in_the_backward_pass() -> None:
    ids, positions, labels = batch()
    gradients = []
    for recompute in (False, True):
        model = target()
        if recompute:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.train()
        GpuLoss(model, torch.float32)(ids, positions, labels, *tiles(positions)).backward()
        gradients.append([weight.grad for weight in model.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


@pytest.mark.parametrize("rows_at_once", [3, 7, 100])
def test_losses_of_parts_add_up_with_their_gradients(
    rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_loss, "ROWS_AT_ONCE", rows_at_once)
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(7, 8, generator=generator).to(DEVICE).requires_grad_()
    weight = (3 * torch.randn(5000, 8, generator=generator)).to(DEVICE).requires_grad_()
    labels = torch.tensor([0, 4999, NO_TARGET, 4096, 17, 4095, NO_TARGET], device=DEVICE)
    found = summed_linear_loss(states, weight, labels)
    logits = states.double() @ weight.double().t()
    wanted = torch.nn.functional.cross_entropy(logits, labels, ignore_index=NO_TARGET, reduction="sum")
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=0)
    for ours, theirs in zip(
        torch.autograd.grad(found * 0.25, (states, weight)),
        torch.autograd.grad(wanted * 0.25, (states, weight)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_sequences_come_with_the_tiles_of_their_documents(tmp_path: Path) -> None:
    mixture = a_mixture(tmp_path, list(range(50)), [0, 5, 11, 40])
    ids, positions, labels, *tiles = TiledSequences(mixture, 16).tensors(np.array([0, 2]))
    plain = PackedSequences(mixture).tensors(np.array([0, 2]))
    assert all(torch.equal(*pair) for pair in zip((ids, positions, labels), plain, strict=True))
    lengths = document_lengths(positions.numpy())
    assert sum(lengths) == positions.numel()
    starts = np.cumsum([0, *lengths[:-1]])
    assert (positions.numpy().ravel()[starts] == 0).all()
    for found, wanted in zip(tiles, attention_tiles(lengths, 16), strict=True):
        assert (found.numpy() == wanted).all()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"attention_bias": True}, "biases"),
        ({"attention_dropout": 0.1}, "dropout"),
        ({"hidden_act": "gelu"}, "the activation gelu"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "dynamic"),
    ],
)
def test_what_is_not_computed_is_refused(change: dict[str, object], named: str) -> None:
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        **change,
    )
    with pytest.raises(UserError, match=f"{named}.*machine=cpu"):
        GpuLoss(LlamaForCausalLM(config))
