"""Training data hold traces whole, with the weights of their own steps, and packing changes no gradient."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn.functional import cross_entropy

from airlab.errors import UserError
from airlab.models.load import load_causal_lm, load_tokenizer
from airlab.schema.step_weights import TopShareWeights
from airlab.schema.traces import Rendering, Segmentation
from airlab.stages.weigh_steps import WeighSteps
from airlab.store.store import Store
from airlab.training.fine_tune import WeightedSummedLoss, trainable
from airlab.training.packing import NO_TARGET
from airlab.training.trace_data import PackedTraces, TraceData, closing_tokens, pack
from tests.unit.text.made_chat import CHATML, chat_tokenizer
from tests.unit.training.made_training import (
    CONTEXT,
    COUNT,
    MadeScores,
    MadeSelection,
    MadeTraces,
    built,
    model_folder,
    read_tokens,
    response,
    training,
)

EOS = 1


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def weighted(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(training(model, MadeScores(uniform=False)), tmp_path_factory.mktemp("weighted"))


def test_prompts_weigh_nothing_and_each_token_has_its_steps_weight(model: Path, tmp_path: Path) -> None:
    scores = MadeScores(uniform=False)
    stage = training(model, scores)
    folder = built(stage, tmp_path)
    assert isinstance(stage.weights, WeighSteps)
    table = pq.read_table(Store(tmp_path).folder(stage.weights) / "weights.parquet").to_pylist()
    weight_of = {row["unit_id"]: row["weight"] for row in table}
    tokens, weights = read_tokens(folder)
    tokenizer = load_tokenizer(model)
    for number, row in enumerate(pq.read_table(folder / "index.parquet").to_pylist()):
        own = slice(row["offset"], row["offset"] + row["n_tokens"])
        prompt, steps = f"{number}? ", response(number).split("\n\n")
        assert tokenizer.decode(tokens[own][:-1]) == prompt + response(number)
        assert tokens[own][-1] == EOS
        lengths = [len(step) + 2 * (k + 1 < len(steps)) for k, step in enumerate(steps)]
        by_step = [np.full(n, weight_of[f"t{number}#{k}"]) for k, n in enumerate(lengths)]
        expected = np.concatenate([np.zeros(len(prompt)), *by_step, [1.0]])
        np.testing.assert_allclose(weights[own], expected, rtol=1e-6)
        assert row["n_predicted"] == sum(lengths) + 1
    assert number == COUNT - 1 and len({*weights.tolist()}) > 10


def test_equal_scores_give_the_data_of_plain_fine_tuning(model: Path, tmp_path: Path) -> None:
    plain, uniform = (built(training(model, scores), tmp_path) for scores in (None, MadeScores(uniform=True)))
    for name in ("tokens.bin", "weights.bin", "index.parquet", "training.json"):
        assert (plain / name).read_bytes() == (uniform / name).read_bytes()


def test_only_the_selected_traces_are_trained_on(model: Path, tmp_path: Path) -> None:
    spec = TopShareWeights(kind="top_share", scope="corpus")
    chosen = MadeSelection(("t3", "t41", "t7"))
    stage = training(model, MadeScores(uniform=False), spec, chosen)
    folder = built(stage, tmp_path)
    assert pq.read_table(folder / "index.parquet")["unit_id"].to_pylist() == ["t3", "t7", "t41"]
    _, weights = read_tokens(folder)
    assert (weights == 0).any()
    # The mean over the tokens of responses is 1: the selection alone was weighed.
    responses = sum(len(response(n)) for n in (3, 7, 41))
    np.testing.assert_allclose(weights.sum(), responses + 3, rtol=1e-5)


def test_traces_that_do_not_fit_are_listed_or_refused(model: Path, tmp_path: Path) -> None:
    stage = training(model, context=30)
    folder = built(stage, tmp_path)
    fits = [n for n in range(COUNT) if len(f"{n}? {response(n)}") + 1 <= 30]
    assert pq.read_table(folder / "index.parquet")["unit_id"].to_pylist() == [f"t{n}" for n in fits]
    skipped = pq.read_table(folder / "skipped.parquet").to_pylist()
    assert len(skipped) == COUNT - len(fits) > 0
    assert {row["reason"] for row in skipped} == {"longer than 30 tokens"}
    with pytest.raises(UserError, match=r"has \d+ tokens and the training context is 30"):
        built(replace(stage, too_long="refuse"), tmp_path)
    with pytest.raises(UserError, match="no trace is left to train on"):
        built(training(model, context=4), tmp_path)


def test_weights_of_other_steps_are_refused(model: Path, tmp_path: Path) -> None:
    stage = training(model, MadeScores(uniform=False))
    with pytest.raises(UserError, match="are not those that were scored"):
        built(replace(stage, segmentation=Segmentation(rule="whole")), tmp_path)
    with pytest.raises(UserError, match="has no weights"):
        built(training(model, MadeScores(uniform=False, count=COUNT - 1)), tmp_path)
    unknown = MadeSelection(("t1", "unknown"))
    with pytest.raises(UserError, match=r"1 selected trace\(s\) are not among the traces"):
        built(training(model, selection=unknown), tmp_path)
    with pytest.raises(UserError, match="1 of 2 selected traces have no scores"):
        built(training(model, MadeScores(uniform=False), selection=unknown), tmp_path)


def test_a_tokenizer_without_a_chat_template_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no chat template"):
        built(replace(training(model), rendering=Rendering()), tmp_path)


def test_the_end_of_the_turn_is_trained_on_and_nothing_after_it() -> None:
    tokenizer = chat_tokenizer(CHATML)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    line = tokenizer.encode("\n", add_special_tokens=False)
    template = np.array([end, *line], dtype=np.int32)
    assert closing_tokens(tokenizer, template).tolist() == [end]
    assert closing_tokens(tokenizer, np.array(line, dtype=np.int32)).tolist() == [*line, end]
    assert closing_tokens(tokenizer, np.zeros(0, dtype=np.int32)).tolist() == [end]
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="token that ends an answer"):
        closing_tokens(tokenizer, np.array(line, dtype=np.int32))


def test_a_sequence_is_filled_before_another_is_begun() -> None:
    lengths = np.array([6, 5, 3, 4, 1, 10])
    assert list(pack(lengths, range(6), 10)) == [[0, 2, 4], [1, 3], [5]]


def test_every_trace_is_in_every_epoch_once_and_whole(weighted: Path) -> None:
    data = TraceData.open(weighted)
    packed = PackedTraces(data, epochs=3, batch_sequences=8, seed=0)
    assert packed.n_sequences % 8 == 0
    seen: Counter[bytes] = Counter()
    for sequence in range(packed.n_sequences):
        ids, positions, labels, weights = (t[0] for t in packed.tensors(np.array([sequence])))
        assert len(ids) <= CONTEXT
        borders = [*np.flatnonzero(positions == 0), len(ids)]
        for start, end in pairwise(borders):
            assert positions[start:end].tolist() == list(range(end - start))
            if labels[start:end].max() == NO_TARGET:
                continue  # an empty sequence
            seen[ids[start:end].numpy().astype("<i4").tobytes()] += 1
            counted = weights[start:end] > 0
            assert torch.equal(counted, labels[start:end] != NO_TARGET) and not counted[-1]
            assert torch.equal(labels[start:end][counted], ids[start + 1 : end][counted[:-1]])
    whole = [data.tokens[o : o + n].tobytes() for o, n in zip(data.offsets, data.lengths, strict=True)]
    assert seen == Counter(whole * 3)


def test_the_weight_of_a_batch_is_the_sum_of_its_tensors(weighted: Path) -> None:
    packed = PackedTraces(TraceData.open(weighted), epochs=2, batch_sequences=8, seed=0)
    for first in range(0, packed.n_sequences, 8):
        *_, weights = packed.tensors(np.arange(first, first + 8))
        np.testing.assert_allclose(packed.n_targets(first, first + 8), weights.double().sum(), rtol=1e-12)


def test_the_order_follows_from_seed_epoch_and_id_alone(weighted: Path) -> None:
    data = TraceData.open(weighted)
    turned = replace(
        data, unit_ids=data.unit_ids[::-1], offsets=data.offsets[::-1], lengths=data.lengths[::-1]
    )

    def streams(data: TraceData, seed: int) -> list[list[int]]:
        packed = PackedTraces(data, epochs=2, batch_sequences=1, seed=seed)
        each = (packed.tensors(np.array([s]))[0][0].tolist() for s in range(packed.n_sequences))
        return list(each)

    first = streams(data, 0)
    assert streams(turned, 0) == first and streams(data, 1) != first
    assert first[: len(first) // 2] != first[len(first) // 2 :]


def test_packed_gradients_are_those_of_one_trace_after_the_other(model: Path, weighted: Path) -> None:
    data = TraceData.open(weighted)
    packed = PackedTraces(data, epochs=1, batch_sequences=1, seed=0)
    target = trainable(model, CONTEXT).model.double()
    rows = np.arange(6)
    tensors = packed.tensors(rows)
    assert (tensors[1] == 0).sum() > 10, "nothing was packed"
    loss = WeightedSummedLoss(target)(*tensors)
    loss.backward()
    found = {name: parameter.grad.clone() for name, parameter in target.named_parameters()}
    target.zero_grad()
    alone = load_causal_lm(model).model.double().requires_grad_(True)
    alone.set_attn_implementation("sdpa")
    total = torch.zeros((), dtype=torch.float64)
    for trace in (trace for row in rows for trace in packed._members[row]):
        own = slice(data.offsets[trace], data.offsets[trace] + data.lengths[trace])
        ids = torch.from_numpy(data.tokens[own].astype(np.int64))
        weights = torch.from_numpy(data.weights[own].astype(np.float64))
        logits = alone(input_ids=ids[None]).logits[0]
        total = total + (cross_entropy(logits[:-1], ids[1:], reduction="none") * weights[1:]).sum()
    total.backward()
    # Not closer: some of the library's arithmetic is float32 whatever the model.
    torch.testing.assert_close(loss, total, rtol=1e-7, atol=0)
    expected = {name: parameter.grad for name, parameter in alone.named_parameters()}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, rtol=0, atol=1e-6 * float(gradient.abs().max()), msg=name
        )


def test_a_model_that_is_too_short_is_refused(model: Path) -> None:
    with pytest.raises(UserError, match="model a context of 128"):
        trainable(model, 129)


def test_the_made_traces_are_what_the_tests_take_them_for() -> None:
    assert MadeTraces().count == COUNT
    assert len({response(n).count("\n\n") for n in range(COUNT)}) == 3
