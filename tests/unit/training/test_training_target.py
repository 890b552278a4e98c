"""The target has the shape that was asked for and a loss that sees no other document."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError

from airlab.schema.training import TargetModel
from airlab.selection.mixture import Mixture
from airlab.training import target as target_module
from airlab.training.packing import NO_TARGET, PackedSequences
from airlab.training.target import SummedLoss, build_target

CONTEXT = 16
TINY = TargetModel(
    vocabulary=50,
    hidden_size=32,
    layers=2,
    heads=4,
    kv_heads=2,
    intermediate_size=48,
    context=CONTEXT,
    tie_embeddings=False,
)


def a_mixture(folder: Path, tokens: list[int], starts: list[int], context: int = CONTEXT) -> Mixture:
    np.array(tokens, dtype="<u2").tofile(folder / "tokens.bin")
    np.save(folder / "starts.npy", np.array(starts, dtype="<i8"))
    facts = {"n_tokens": len(tokens), "dtype": "<u2", "context": context, "sha256": "0" * 64}
    (folder / "mixture.json").write_text(json.dumps(facts))
    return Mixture.open(folder)


def three_documents(folder: Path) -> PackedSequences:
    """Two sequences of 16: documents begin at 0, 5 and 11; the last runs over the sequence's border."""
    tokens = np.random.default_rng(0).integers(1, 50, 32)
    tokens[[0, 5, 11]] = 0
    return PackedSequences(a_mixture(folder, tokens.tolist(), [0, 5, 11]))


def test_positions_restart_where_documents_and_sequences_begin(tmp_path: Path) -> None:
    batch = three_documents(tmp_path).batch(np.array([0, 1]))
    assert batch.position_ids.tolist() == [[*range(5), *range(6), *range(5)], [*range(16)]]


def test_every_token_predicts_the_next_up_to_the_end_of_the_stream(tmp_path: Path) -> None:
    packed = three_documents(tmp_path)
    both = packed.batch(np.array([0, 1]))
    flat = both.input_ids.flatten()
    assert both.labels.flatten().tolist() == [*flat[1:].tolist(), NO_TARGET]
    assert both.labels[0, 4] == 0 and both.labels[0, 10] == 0  # a document's last token predicts its end
    assert packed.n_targets(0, 2) == 31 and packed.n_targets(0, 1) == 16


def test_packed_loss_is_the_sum_over_separate_documents(tmp_path: Path) -> None:
    packed = three_documents(tmp_path)
    batch = packed.batch(np.array([0, 1]))
    module = SummedLoss(build_target(TINY, 50, 0, seed=1)).double()
    together = module(batch.input_ids, batch.position_ids, batch.labels)
    apart = torch.zeros((), dtype=torch.float64)
    ids, labels = batch.input_ids.flatten(), batch.labels.flatten()
    for start, end in [(0, 5), (5, 11), (11, 16), (16, 32)]:
        logits = module.target(ids[None, start:end]).logits[0]
        apart += torch.nn.functional.cross_entropy(
            logits, labels[start:end], ignore_index=NO_TARGET, reduction="sum"
        )
    # Losses are float32 by contract; 31 tokens of about 4 nats each.
    assert together.item() == pytest.approx(apart.item(), rel=1e-6)


def test_first_real_token_of_a_document_ignores_the_documents_before(tmp_path: Path) -> None:
    batch = three_documents(tmp_path).batch(np.array([0]))
    model = build_target(TINY, 50, 0, seed=1)
    changed = batch.input_ids.clone()
    changed[0, 1:5] = 7
    with torch.no_grad():
        before, after = (
            model(ids, position_ids=batch.position_ids, attention_mask=None, use_cache=False).logits
            for ids in (batch.input_ids, changed)
        )
    assert torch.equal(before[0, 5:], after[0, 5:]) and not torch.equal(before[0, 4], after[0, 4])


def test_chunked_loss_and_gradient_equal_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = three_documents(tmp_path).batch(np.array([0, 1]))
    module = SummedLoss(build_target(TINY, 50, 0, seed=1))
    results = []
    for at_once in (1 << 26, 50 * 7):
        monkeypatch.setattr(target_module, "LOGITS_AT_ONCE", at_once)
        module.zero_grad()
        loss = module(batch.input_ids, batch.position_ids, batch.labels)
        loss.backward()
        results.append((loss.item(), module.target.lm_head.weight.grad.clone()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    assert torch.allclose(results[0][1], results[1][1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tie", [True, False])
def test_parameters_are_as_many_as_the_schema_says(tie: bool) -> None:
    shape = TINY.model_copy(update={"tie_embeddings": tie})
    built = build_target(shape, 50, 0, seed=0)
    assert sum(weight.numel() for weight in built.parameters()) == shape.n_parameters(50)
    assert built.config.eos_token_id == built.config.bos_token_id == 0
    assert built.config.num_key_value_heads == 2 and built.config.max_position_embeddings == CONTEXT


def test_weights_follow_from_the_seed_and_leave_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    one, same, other = (build_target(TINY, 50, 0, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(one.lm_head.weight, same.lm_head.weight)
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
    first, second = one.model.layers
    assert not torch.equal(first.mlp.up_proj.weight, second.mlp.up_proj.weight)
    assert first.mlp.up_proj.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValidationError, match="multiple of kv_heads"):
        TargetModel.model_validate(TINY.model_dump() | {"kv_heads": 3})


def test_shipped_targets_have_the_size_in_their_name() -> None:
    folder = Path(__file__).parents[3] / "configs" / "target"
    for name, millions in {"llama-4m": 4, "llama-30m": 30, "llama-124m": 124, "llama-360m": 360}.items():
        shape = TargetModel.model_validate(yaml.safe_load((folder / f"{name}.yaml").read_text()))
        assert shape.n_parameters(int(shape.vocabulary)) == pytest.approx(millions * 1e6, rel=0.03)
