"""The most-attended positions against transformers' own attention weights, in every family."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from airlab.heads import attended
from airlab.heads.attended import most_attended
from airlab.models import attention
from airlab.models.geometry import Geometry
from airlab.models.load import CausalLM
from airlab.models.packed import hidden_states


def sequences(*lengths: int) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 97, n) for n in lengths]


def test_positions_are_those_of_the_largest_attention_weight(any_family):
    """Sequences longer than the sliding window, packed; rows anywhere, the first and the last included."""
    packed = sequences(40, 9, 33)
    rows = [np.array([0, 5, 20, 39]), np.array([8]), np.array([17, 31])]
    ours = most_attended(any_family, packed, rows)
    any_family.model.set_attn_implementation("eager")
    for sequence, where, found in zip(packed, rows, ours.positions, strict=True):
        weights = any_family.model(
            input_ids=torch.as_tensor(sequence)[None], use_cache=False, output_attentions=True
        ).attentions
        theirs = torch.stack(weights)[:, 0][:, :, where].argmax(-1).numpy()
        np.testing.assert_array_equal(found, theirs)
    any_family.model.set_attn_implementation(attention.NAME)
    assert ours.states.shape == (7, any_family.model.config.hidden_size)


PACK = sequences(21, 64, 5, 48)
ROWS = [np.array([20]), np.array([63, 1, 40, 40]), np.array([0, 4]), np.array([12, 47, 30])]


@pytest.fixture
def together(any_family: CausalLM) -> attended.MostAttended:
    return most_attended(any_family, PACK, ROWS)


def test_neither_neighbours_nor_their_order_change_what_is_found(any_family, together):
    alone = [most_attended(any_family, [s], [r]).positions[0] for s, r in zip(PACK, ROWS, strict=True)]
    backwards = most_attended(any_family, PACK[::-1], ROWS[::-1]).positions[::-1]
    for a, b, c in zip(together.positions, alone, backwards, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize("limit", [1, 6 * 4 * 64 * 2])
def test_comparing_a_few_sequences_at_a_time_finds_the_same(any_family, together, limit, monkeypatch):
    monkeypatch.setattr(attended, "_LOGITS", limit)
    assert len(list(attended._parts([len(s) for s in PACK], ROWS, 6))) > 1
    for a, b in zip(together.positions, most_attended(any_family, PACK, ROWS).positions, strict=True):
        np.testing.assert_array_equal(a, b)


def test_parts_cover_every_sequence_once_and_stay_within_the_limit(monkeypatch):
    monkeypatch.setattr(attended, "_LOGITS", 5000)
    draw = np.random.default_rng(1)
    lengths = draw.integers(1, 60, 50).tolist()
    rows = [np.zeros(draw.integers(1, 9), dtype=np.int64) for _ in lengths]
    parts = list(attended._parts(lengths, rows, 4))
    assert [i for part in parts for i in range(50)[part]] == list(range(50))
    for part in parts:
        size = len(range(50)[part])
        assert size == 1 or size * 4 * max(map(len, rows[part])) * max(lengths[part]) <= 5000


def group(geometry: Geometry, lengths: list[int], rows: list[np.ndarray]) -> attended._Group:
    starts = np.cumsum(lengths) - lengths
    return attended._Group.of(torch.device("cpu"), geometry, starts, np.array(lengths), rows)


GEOMETRY = Geometry(layers=1, heads=6, kv_heads=2, context=256, vocabulary=97)


@pytest.mark.parametrize("window", [None, 16])
def test_ties_go_to_the_earliest_visible_position(window):
    """Queries of zeros see all positions alike."""
    lengths = [len(s) for s in PACK]
    made = group(GEOMETRY, lengths, ROWS)
    made.observe(0, torch.zeros(1, 6, sum(lengths), 8), torch.randn(1, 2, sum(lengths), 8), 1.0, window)
    for found, rows in zip(made.positions(), ROWS, strict=True):
        earliest = np.zeros_like(rows) if window is None else np.maximum(rows - window + 1, 0)
        np.testing.assert_array_equal(found[0], np.broadcast_to(earliest, (6, len(rows))))


def test_logits_of_a_bfloat16_model_are_compared_in_float32(llama):
    """In bfloat16 the best of near-equal logits is often another one."""
    llama.model.to(torch.bfloat16)
    sequence, rows = sequences(250)[0], np.arange(250)
    expected = np.zeros((4, 6, 250), dtype=np.int64)
    lost = 0

    def observe(layer: int, query: torch.Tensor, key: torch.Tensor, scale: float, window: int | None) -> None:
        nonlocal lost
        keys = key[0].repeat_interleave(3, dim=0).double()
        logits = query[0].double() @ keys.transpose(1, 2) * scale
        logits.masked_fill_(torch.ones(250, 250, dtype=torch.bool).triu(1), -torch.inf)
        expected[layer] = logits.argmax(-1).numpy()
        lost += int((logits.bfloat16().argmax(-1).numpy() != expected[layer]).sum())

    hidden_states(llama, torch.as_tensor(sequence), [250], observer=observe)
    assert lost > 10
    found = most_attended(llama, [sequence], [rows])
    np.testing.assert_array_equal(found.positions[0], expected)


class _Count(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls += 1
        return function(*args, **(kwargs or {}))


def test_work_is_launched_for_all_sequences_at_once():
    """Launching is what costs on a GPU: operations of a layer must not grow with the sequences."""

    def calls(count: int) -> int:
        made = group(GEOMETRY, [16] * count, [np.array([15, 3])] * count)
        query, key = torch.randn(1, 6, 16 * count, 8), torch.randn(1, 2, 16 * count, 8)
        with _Count() as counted:
            made.observe(0, query, key, 1.0, None)
        return counted.calls

    assert calls(2) == calls(12)
